/* The smallest NVMe driver that writes and reads: one admin queue, one I/O queue pair, PRPs. */
#include "machine.h"

enum { CAP = 0x00, INTMS = 0x0c, INTMC = 0x10, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, DOORBELLS = 0x1000 };
enum { DELETE_SQ = 0, CREATE_SQ = 1, DELETE_CQ = 4, CREATE_CQ = 5, IDENTIFY = 6, FLUSH = 0, WRITE = 1, READ = 2 };
enum { MOST_BLOCKS = 1024, ENTRIES = 16, PAGE = 4096, BLOCK = 512, DATA_PAGES = 6 };

struct command { uint32_t dword[16]; };
struct completion { uint32_t result, reserved; uint16_t head, queue, id, status; };
struct queue { struct command *commands; volatile struct completion *completions; unsigned number, tail, head, phase; };

static uint32_t bar;
static volatile unsigned seen;
static uint8_t memory[4][PAGE] __attribute__((aligned(PAGE)));
static uint8_t identity[PAGE] __attribute__((aligned(PAGE)));
static uint8_t data[DATA_PAGES * PAGE] __attribute__((aligned(PAGE)));
static uint8_t copy[DATA_PAGES * PAGE] __attribute__((aligned(PAGE)));
static uint32_t list[PAGE / 4] __attribute__((aligned(PAGE)));
static struct queue admin, io;

/* By the pin: the device is quiet when its completions were taken, so the line is masked until then. */
static bool on_interrupt(void) {
  write32(bar + INTMS, 1);
  seen++;
  return true;
}

static void wait_ready(uint32_t ready) {
  while ((read32(bar + CSTS) & 1) != ready && !(read32(bar + CSTS) & 2)) {}
}

static struct queue make_queue(unsigned number, void *commands, void *completions) {
  memset(commands, 0, PAGE);
  memset(completions, 0, PAGE);
  return (struct queue){commands, completions, number, 0, 0, 1};
}

static void ring(unsigned number, bool completion, unsigned value) {
  write32(bar + DOORBELLS + (2 * number + completion) * 4, value);
}

/* Sends one command and sleeps until it is done. Returns its status: 0 is success. */
static unsigned submit(struct queue *queue, const struct command *command, bool messages) {
  volatile unsigned *counter = messages ? &interrupts[MESSAGE_VECTOR + 1] : &seen;
  queue->commands[queue->tail] = *command;
  queue->tail = (queue->tail + 1) % ENTRIES;
  volatile struct completion *done = &queue->completions[queue->head];
  unsigned before = *counter;
  ring(queue->number, false, queue->tail);
  do {
    wait_for(counter, before + 1);
    before = *counter;
  } while ((done->status & 1) != queue->phase);
  unsigned status = done->status >> 1;
  queue->head = (queue->head + 1) % ENTRIES;
  if (queue->head == 0) queue->phase ^= 1;
  ring(queue->number, true, queue->head);
  if (!messages) write32(bar + INTMC, 1);
  return status;
}

static struct command make(uint32_t opcode, uint32_t namespace, const void *where) {
  return (struct command){{opcode | 1u << 16, namespace, 0, 0, 0, 0, (uint32_t)where}};
}

static unsigned identify(uint32_t what, uint32_t namespace, bool messages) {
  struct command command = make(IDENTIFY, namespace, identity);
  command.dword[10] = what;
  return submit(&admin, &command, messages);
}

static unsigned create_queues(bool messages) {
  struct command completions = make(CREATE_CQ, 0, memory[3]), commands = make(CREATE_SQ, 0, memory[2]);
  completions.dword[10] = commands.dword[10] = (ENTRIES - 1) << 16 | 1;
  completions.dword[11] = 3;
  commands.dword[11] = 1 << 16 | 1;
  io = make_queue(1, memory[2], memory[3]);
  return submit(&admin, &completions, messages) | submit(&admin, &commands, messages);
}

/* Blocks between `buffer` and the disk, by two PRPs or a list. */
static unsigned transfer(uint32_t opcode, uint8_t *buffer, uint32_t first, uint32_t blocks, bool messages) {
  struct command command = make(opcode, 1, buffer);
  uint32_t pages = (blocks * BLOCK + PAGE - 1) / PAGE;
  memset(list, 0, sizeof list);
  for (uint32_t n = 1; n < pages; n++) list[(n - 1) * 2] = (uint32_t)buffer + n * PAGE;
  command.dword[8] = pages < 2 ? 0 : pages == 2 ? (uint32_t)buffer + PAGE : (uint32_t)list;
  command.dword[10] = first;
  command.dword[12] = blocks - 1;
  return submit(&io, &command, messages);
}

static void enable(void) {
  write32(bar + CC, 0);
  wait_ready(0);
  admin = make_queue(0, memory[0], memory[1]);
  write32(bar + AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
  write32(bar + ASQ, (uint32_t)memory[0]);
  write32(bar + ASQ + 4, 0);
  write32(bar + ACQ, (uint32_t)memory[1]);
  write32(bar + ACQ + 4, 0);
  write32(bar + CC, 4 << 20 | 6 << 16 | 1);
  wait_ready(1);
}

static bool begin(const struct function *pci, bool messages) {
  bar = pci->bars[0].at;
  forget_lines();
  if (!messages) on_line(pci->line, on_interrupt);
  if (messages && !check("nvme", use_messages(pci, 1), "MSI-X")) return false;
  if (!messages) use_pin(pci);
  enable();
  return check("nvme", (read32(bar + CSTS) & 3) == 1, "controller is ready");
}

static void round_trip(uint32_t first, uint32_t blocks, bool messages) {
  for (uint32_t n = 0; n < blocks * BLOCK; n++) data[n] = (uint8_t)(n ^ n >> 8 ^ first);
  memset(copy, 0, sizeof copy);
  check("nvme", transfer(WRITE, data, first, blocks, messages) == 0, "write");
  struct command flush = make(FLUSH, 1, 0);
  check("nvme", submit(&io, &flush, messages) == 0, "flush");
  check("nvme", transfer(READ, copy, first, blocks, messages) == 0, "read");
  check("nvme", memcmp(data, copy, blocks * BLOCK) == 0, "what was written is what is read");
}

static void work(const struct function *pci, bool messages) {
  if (!begin(pci, messages)) return;
  check("nvme", identify(1, 0, messages) == 0 && identity[0] == 0x34 && identity[1] == 0x12, "identify controller");
  check("nvme", identify(0, 1, messages) == 0, "identify namespace");
  uint32_t capacity = *(uint32_t *)identity;
  check("nvme", create_queues(messages) == 0, "I/O queues");
  round_trip(0, 8, messages);
  round_trip(11, 16, messages);
  round_trip(40, DATA_PAGES * PAGE / BLOCK, messages);
  check("nvme", transfer(READ, copy, capacity, 1, messages) != 0, "a block behind the end is refused");
  check("nvme", identify(1, 0, messages) == 0, "the controller goes on");
  write32(bar + CC, 0);
  wait_ready(0);
}

void drive_nvme(const struct function *pci) {
  unsigned before = failures;
  work(pci, false);
  work(pci, true);
  use_pin(pci);
  if (failures == before) say("nvme: ok, %u interrupts by the pin, %u by messages", seen, interrupts[MESSAGE_VECTOR + 1]);
}

bool nvme_open(const struct function *pci) { return begin(pci, true) && create_queues(true) == 0; }

bool nvme_read(void *memory, uint32_t first, uint32_t blocks) {
  uint8_t *to = memory;
  for (uint32_t done = 0; done < blocks; done += MOST_BLOCKS) {
    uint32_t part = blocks - done < MOST_BLOCKS ? blocks - done : MOST_BLOCKS;
    if (transfer(READ, to + done * BLOCK, first + done, part, true) != 0) return false;
  }
  return true;
}

bool nvme_close(void) {
  write32(bar + CC, 0);
  wait_ready(0);
  return (read32(bar + CSTS) & 3) == 0;
}

void nvme_forever(const struct function *pci) {
  if (!begin(pci, true) || !check("nvme", create_queues(true) == 0, "I/O queues")) return;
  say("nvme: writing");
  for (uint32_t block = 0;; block = (block + 8) % 64) transfer(WRITE, data, block, 48, true);
}

/* Works until the function is not there any more, which its identity tells. No interrupts: they would be lost with it. */
void nvme_until_gone(const struct function *pci) {
  if (!begin(pci, true)) return;
  say("nvme: waiting to be unplugged");
  unsigned looks = 0;
  while (config_read(pci->slot, 0) != 0xffffffff) looks++;
  check("nvme", read32(bar + CSTS) == 0xffffffff, "ones where it was");
  say("nvme: gone");
  while (config_read(pci->slot, 0) == 0xffffffff) looks++;
  say("nvme: back");
  struct function again[8];
  unsigned count = find_functions(again, 8);
  for (unsigned n = 0; n < count; n++) if (again[n].id == ID_NVME) drive_nvme(&again[n]);
}
