/* Driver for a GVT-g vGPU: PVINFO, the global translation table, the blitter's ring, the primary plane. */
#include "machine.h"

enum { PVINFO = 0x78000, LOW_BASE = 0x78040, LOW_SIZE = 0x78044, TABLE = 8 << 20, RING_TAIL = 0x22030, RING_HEAD = 0x22034,
  RING_START = 0x22038, RING_CTL = 0x2203c, STATUS_PAGE = 0x22080, RING_ERROR = 0x220b0, MASTER = 0x44200, IMR = 0x44304, IIR = 0x44308,
  IER = 0x4430c, PIPE = 0x70008, PIPE_SIZE = 0x6001c, PLANE = 0x70180, PLANE_STRIDE = 0x70188, PLANE_SURFACE = 0x7019c };
#define USER_INTERRUPT (1u << 16)
#define ERROR_INTERRUPT (1u << 19)
#define ENABLE 0x80000000u
#define XRGB8888 (4u << 24)
enum { PAGE = 4096, RING_BYTES = 4096, SEQNO = 0x100 };

static uint32_t bar, next, end, ring_at, status_at, tail, jobs;
static uint32_t ring[RING_BYTES / 4] __attribute__((aligned(PAGE)));
static volatile uint32_t status[PAGE / 4] __attribute__((aligned(PAGE)));

uint32_t vgpu_map(const void *memory, uint32_t bytes) {
  uint32_t address = next, pages = (bytes + PAGE - 1) / PAGE;
  if (!check("vgpu", address + pages * PAGE <= end, "graphics memory for all of it")) return 0;
  for (uint32_t page = 0; page < pages; page++) {
    uint32_t entry = bar + TABLE + (address / PAGE + page) * 8;
    write32(entry + 4, 0);
    write32(entry, ((uint32_t)memory + page * PAGE) | 3);
  }
  next += pages * PAGE;
  return address;
}

static void emit(const uint32_t *words, unsigned count) {
  for (unsigned n = 0; n < count; n++) {
    ring[tail / 4] = words[n];
    tail = (tail + 4) % RING_BYTES;
  }
}

bool vgpu_start(const struct function *pci) {
  bar = pci->bars[0].at;
  jobs = tail = 0;
  if (!check("vgpu", read32(bar + PVINFO) == 0x76544776 && read32(bar + PVINFO + 4) == 0x47765447, "PVINFO")) return false;
  next = read32(bar + LOW_BASE);
  end = next + read32(bar + LOW_SIZE);
  if (!check("vgpu", use_messages(pci, 3), "MSI")) return false;
  write32(bar + RING_CTL, 0);
  memset((void *)status, 0, sizeof status);
  write32(bar + IMR, ~(USER_INTERRUPT | ERROR_INTERRUPT));
  write32(bar + IER, USER_INTERRUPT | ERROR_INTERRUPT);
  write32(bar + MASTER, ENABLE);
  ring_at = vgpu_map(ring, sizeof ring);
  status_at = vgpu_map((const void *)status, sizeof status);
  write32(bar + STATUS_PAGE, status_at);
  write32(bar + RING_START, ring_at);
  write32(bar + RING_HEAD, 0);
  write32(bar + RING_TAIL, 0);
  write32(bar + RING_CTL, (RING_BYTES / PAGE - 1) << 12 | 1);
  return true;
}

/* Tells what was emitted, and sleeps until it is done. */
bool vgpu_run(void) {
  volatile unsigned *counter = &interrupts[MESSAGE_VECTOR + 3];
  uint32_t number = ++jobs, before = *counter;
  const uint32_t words[] = {0x26u << 23 | 1 << 14 | 2, (status_at + SEQNO) | 4, 0, number, 2u << 23, 0};
  emit(words, sizeof words / 4);
  write32(bar + RING_TAIL, tail);
  while (status[SEQNO / 4] != number) {
    wait_for(counter, before + 1);
    before = *counter;
    write32(bar + MASTER, 0);
    write32(bar + IIR, read32(bar + IIR));
    write32(bar + MASTER, ENABLE);
    if (!check("vgpu", read32(bar + RING_ERROR) == 0, "the engine took its commands")) return false;
  }
  return true;
}

/* Rectangles have their right and bottom outside; pitches are bytes of 32-bit pixels. */
void vgpu_fill(uint32_t target, uint32_t width, struct rectangle r, uint32_t color) {
  const uint32_t words[] = {2u << 29 | 0x50u << 22 | 3u << 20 | 5, 3u << 24 | 0xf0u << 16 | width * 4, r.top << 16 | r.left,
    r.bottom << 16 | r.right, target, 0, color, 0};
  emit(words, sizeof words / 4);
}

void vgpu_copy(uint32_t target, uint32_t width, struct rectangle r, uint32_t source, uint32_t source_width) {
  const uint32_t words[] = {2u << 29 | 0x53u << 22 | 3u << 20 | 8, 3u << 24 | 0xccu << 16 | width * 4, r.top << 16 | r.left,
    r.bottom << 16 | r.right, target, 0, 0, source_width * 4, source, 0};
  emit(words, sizeof words / 4);
}

void vgpu_show(uint32_t surface, uint32_t width, uint32_t height) {
  write32(bar + PIPE_SIZE, (width - 1) << 16 | (height - 1));
  write32(bar + PLANE_STRIDE, width * 4 / 64);
  write32(bar + PLANE, ENABLE | XRGB8888);
  write32(bar + PIPE, ENABLE);
  write32(bar + PLANE_SURFACE, surface);
}
