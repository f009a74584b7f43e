/*
 * A guest that is told what to do on its console, one command a line: reads a picture from an NVMe disk, draws with it on a vGPU,
 * stores the frame on the passthrough disk, switches lamps. It answers each with `COMMAND: ok` or `COMMAND: FAIL what`.
 */
#include "machine.h"

enum { WIDTH = 1280, HEIGHT = 720, PICTURE_LEFT = 48, PICTURE_TOP = 152, MOST = 640 * 360, BLOCK = 512, BORDER = 4 };

void set_command_line(uint32_t *info);
static struct function functions[16];
static unsigned count;
static uint8_t picture[MOST * 4] __attribute__((aligned(4096)));
static uint8_t frame[WIDTH * HEIGHT * 4] __attribute__((aligned(4096)));
static uint8_t again[64 * 1024] __attribute__((aligned(4096)));
static uint32_t picture_width, picture_height;
static char line[128];

static const struct function *find(uint32_t id) {
  for (unsigned n = 0; n < count; n++) if (functions[n].id == id) return &functions[n];
  return NULL;
}

/* The number behind the n-th blank of the line, decimal. */
static uint32_t argument(unsigned n) {
  const char *at = line;
  while (n-- && *at) {
    while (*at && *at != ' ') at++;
    while (*at == ' ') at++;
  }
  uint32_t value = 0;
  for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint32_t)(*at - '0');
  return value;
}

/* `read WIDTH HEIGHT`: the picture from the beginning of the NVMe disk. */
static bool read_picture(void) {
  const struct function *nvme = find(ID_NVME);
  picture_width = argument(1);
  picture_height = argument(2);
  uint32_t bytes = picture_width * picture_height * 4;
  if (!check("read", nvme && bytes > 0 && bytes <= sizeof picture, "a picture that fits")) return false;
  memset(picture, 0, sizeof picture);
  return check("read", nvme_open(nvme) && nvme_read(picture, 0, bytes / BLOCK) && nvme_close(), "the NVMe disk");
}

/* `draw`: a ground of bands, a border, the picture; then the screen shows it. */
static bool draw(void) {
  const struct function *vgpu = find(ID_VGPU);
  if (!check("draw", vgpu && vgpu_start(vgpu), "a vGPU")) return false;
  uint32_t target = vgpu_map(frame, sizeof frame), source = vgpu_map(picture, picture_width * picture_height * 4);
  for (uint32_t band = 0; band < 24; band++) {
    uint32_t top = band * HEIGHT / 24, color = 0xff000000 | (13 + band) << 16 | (16 + band / 3) << 8 | (48 + band);
    vgpu_fill(target, WIDTH, (struct rectangle){0, top, WIDTH, (band + 1) * HEIGHT / 24}, color);
  }
  struct rectangle place = {PICTURE_LEFT, PICTURE_TOP, PICTURE_LEFT + picture_width, PICTURE_TOP + picture_height};
  struct rectangle border = {place.left - BORDER, place.top - BORDER, place.right + BORDER, place.bottom + BORDER};
  vgpu_fill(target, WIDTH, border, 0xffffb454);
  vgpu_copy(target, WIDTH, place, source, picture_width);
  if (!vgpu_run()) return false;
  vgpu_show(target, WIDTH, HEIGHT);
  return true;
}

/* `store BLOCK`: the frame to the passthrough disk, and back to compare. */
static bool store(void) {
  const struct function *disk = find(ID_DISK);
  uint32_t first = argument(1);
  if (!check("store", disk && disk_open(disk), "a disk")) return false;
  if (!check("store", disk_transfer(true, first, frame, sizeof frame / BLOCK), "write")) return false;
  for (uint32_t at = 0; at < sizeof frame; at += sizeof again) {
    uint32_t bytes = sizeof frame - at < sizeof again ? sizeof frame - at : sizeof again;
    if (!check("store", disk_transfer(false, first + at / BLOCK, again, bytes / BLOCK), "read")) return false;
    if (!check("store", memcmp(again, frame + at, bytes) == 0, "what is read is what was written")) return false;
  }
  return true;
}

/* `lamps LEVELS`: the outputs of the board, read back over the wires to its inputs. */
static bool lamps(void) {
  const struct function *board = find(ID_GPIO);
  uint16_t levels = (uint16_t)argument(1);
  if (!check("lamps", board != NULL, "a board")) return false;
  gpio_set(board, levels);
  return check("lamps", gpio_get(board) == levels, "inputs follow outputs");
}

/* `busy`: the NVMe disk, the passthrough disk and the vGPU, without end. */
static bool busy(void) {
  for (bool told = false;; told = true) {
    if (!read_picture() || !draw() || !store()) return false;
    if (!told) say("busy: going on");
  }
}

/* `scan`: looks at the bus anew, after something was plugged in or taken out. */
static bool scan(void) {
  count = find_functions(functions, 16);
  for (unsigned n = 0; n < count; n++) say("slot %u: %x class %x line %u", functions[n].slot, functions[n].id, functions[n].class_code, functions[n].line);
  return true;
}

static const struct { const char *name; bool (*run)(void); } commands[] = {
  {"scan", scan}, {"read", read_picture}, {"draw", draw}, {"store", store}, {"lamps", lamps}, {"busy", busy},
};

static bool begins(const char *word) {
  const char *at = line;
  while (*word && *word == *at) word++, at++;
  return !*word && (!*at || *at == ' ');
}

int kernel_main(uint32_t *info) {
  set_command_line(info);
  start_interrupts();
  start_console();
  say("studio: ready");
  for (;;) {
    read_line(line, sizeof line);
    if (begins("exit")) return (int)failures;
    bool known = false;
    for (unsigned n = 0; n < sizeof commands / sizeof *commands; n++) {
      if (!begins(commands[n].name)) continue;
      known = true;
      if (commands[n].run()) say("%s: ok", commands[n].name);
    }
    if (!known) say("studio: there is no command %s", line);
  }
}
