/* Driver for the passthrough disk of packages/vm. */
#include "machine.h"

enum { MAGIC = 0x00, CAPACITY = 0x08, LBA = 0x10, COUNT = 0x18, DIRECTION = 0x1c, IOVA = 0x20, DOORBELL = 0x28, STATUS = 0x2c,
  INTERRUPT = 0x30, INTERRUPT_ENABLE = 0x34 };
enum { DONE = 2, DMA_FAULT = 3, TO_MEMORY = 0, FROM_MEMORY = 1, BLOCK = 512, BLOCKS = 24 };

static uint32_t bar;
static volatile unsigned seen;
static uint8_t data[BLOCKS * BLOCK] __attribute__((aligned(4096)));
static uint8_t copy[BLOCKS * BLOCK] __attribute__((aligned(4096)));

static bool on_interrupt(void) {
  if (!(read32(bar + INTERRUPT) & 1)) return false;
  write32(bar + INTERRUPT, 1);
  seen++;
  return true;
}

static uint32_t transfer(uint32_t direction, uint32_t first, uint32_t memory, uint32_t blocks, bool messages) {
  volatile unsigned *counter = messages ? &interrupts[MESSAGE_VECTOR + 2] : &seen;
  unsigned before = *counter;
  write32(bar + LBA, first);
  write32(bar + LBA + 4, 0);
  write32(bar + COUNT, blocks);
  write32(bar + DIRECTION, direction);
  write32(bar + IOVA, memory);
  write32(bar + IOVA + 4, 0);
  write32(bar + DOORBELL, 1);
  wait_for(counter, before + 1);
  if (messages) write32(bar + INTERRUPT, 1);
  return read32(bar + STATUS);
}

static void work(uint32_t first, bool messages) {
  for (unsigned n = 0; n < sizeof data; n++) data[n] = (uint8_t)(n * 3 + first + (n >> 9));
  memset(copy, 0, sizeof copy);
  check("disk", transfer(FROM_MEMORY, first, (uint32_t)data, BLOCKS, messages) == DONE, "write");
  check("disk", transfer(TO_MEMORY, first, (uint32_t)copy, BLOCKS, messages) == DONE, "read");
  check("disk", memcmp(data, copy, sizeof data) == 0, "what was written is what is read");
}

bool disk_open(const struct function *pci) {
  bar = pci->bars[0].at;
  forget_lines();
  write32(bar + INTERRUPT_ENABLE, 1);
  return read32(bar + MAGIC) == 0x4b534450 && use_messages(pci, 2);
}

bool disk_transfer(bool write, uint32_t first, void *memory, uint32_t blocks) {
  return transfer(write ? FROM_MEMORY : TO_MEMORY, first, (uint32_t)memory, blocks, true) == DONE;
}

void drive_disk(const struct function *pci) {
  unsigned before = failures;
  bar = pci->bars[0].at;
  forget_lines();
  on_line(pci->line, on_interrupt);
  check("disk", read32(bar + MAGIC) == 0x4b534450, "magic");
  write32(bar + INTERRUPT_ENABLE, 1);
  use_pin(pci);
  work(8, false);
  check("disk", use_messages(pci, 2), "MSI");
  work(64, true);
  check("disk", transfer(TO_MEMORY, 0, 0xf0000000, BLOCKS, true) == DMA_FAULT, "the IOMMU refuses what is no memory");
  use_pin(pci);
  if (failures == before) say("disk: ok, %u interrupts by the pin, %u by messages", seen, interrupts[MESSAGE_VECTOR + 2]);
}
