/* Driver for QEMU's teaching device. */
#include "machine.h"

enum { IDENTITY = 0x00, LIVENESS = 0x04, FACTORIAL = 0x08, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64,
  DMA_SOURCE = 0x80, DMA_TARGET = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98, BUFFER = 0x40000 };
enum { DMA_START = 1, DMA_TO_RAM = 2, DMA_INTERRUPT = 4, INTERRUPT_WHEN_DONE = 0x80 };

static uint32_t bar;
static volatile unsigned seen;
static uint8_t page[4096] __attribute__((aligned(4096)));

static bool on_interrupt(void) {
  uint32_t status = read32(bar + IRQ_STATUS);
  if (!status) return false;
  write32(bar + IRQ_ACK, status);
  seen++;
  return true;
}

static void transfer(uint32_t from, uint32_t to, uint32_t count, uint32_t command) {
  write32(bar + DMA_SOURCE, from);
  write32(bar + DMA_SOURCE + 4, 0);
  write32(bar + DMA_TARGET, to);
  write32(bar + DMA_TARGET + 4, 0);
  write32(bar + DMA_COUNT, count);
  write32(bar + DMA_COUNT + 4, 0);
  write32(bar + DMA_COMMAND, command);
}

/* Waits for one more interrupt, by the pin or by message n. */
static void wait_next(bool messages, unsigned *expected) {
  wait_for(messages ? &interrupts[MESSAGE_VECTOR] : &seen, ++*expected);
  if (messages) write32(bar + IRQ_ACK, read32(bar + IRQ_STATUS));
}

static void work(bool messages) {
  unsigned expected = messages ? interrupts[MESSAGE_VECTOR] : seen;
  write32(bar + STATUS, INTERRUPT_WHEN_DONE);
  write32(bar + FACTORIAL, 10);
  wait_next(messages, &expected);
  check("edu", read32(bar + FACTORIAL) == 3628800, "factorial of 10");
  for (unsigned n = 0; n < sizeof page; n++) page[n] = (uint8_t)(n * 7 + messages);
  transfer((uint32_t)page, BUFFER, sizeof page, DMA_START | DMA_INTERRUPT);
  wait_next(messages, &expected);
  memset(page, 0, sizeof page);
  transfer(BUFFER, (uint32_t)page, sizeof page, DMA_START | DMA_TO_RAM | DMA_INTERRUPT);
  wait_next(messages, &expected);
  bool same = true;
  for (unsigned n = 0; n < sizeof page; n++) same &= page[n] == (uint8_t)(n * 7 + messages);
  check("edu", same, "4096 bytes to the device and back");
}

static void begin(const struct function *pci) {
  bar = pci->bars[0].at;
  forget_lines();
  on_line(pci->line, on_interrupt);
}

void drive_edu(const struct function *pci) {
  unsigned before = failures;
  begin(pci);
  check("edu", read32(bar + IDENTITY) == 0x010000ed, "identification");
  write32(bar + LIVENESS, 0x12345678);
  check("edu", read32(bar + LIVENESS) == ~0x12345678u, "liveness");
  use_pin(pci);
  work(false);
  check("edu", use_messages(pci, 0), "MSI");
  work(true);
  use_pin(pci);
  config_write16(pci->slot, PCI_COMMAND, PCI_MASTER);
  check("edu", read32(bar + IDENTITY) == 0xffffffff, "ones while memory decoding is off");
  config_write16(pci->slot, PCI_COMMAND, PCI_MEMORY | PCI_MASTER);
  check("edu", read32(bar + IDENTITY) == 0x010000ed, "back when it is on");
  if (failures == before) say("edu: ok, %u interrupts by the pin, %u by messages", seen, interrupts[MESSAGE_VECTOR]);
}

/* As many interrupts as asked for, each acknowledged before the next. */
void edu_storm(const struct function *pci, unsigned count) {
  begin(pci);
  use_pin(pci);
  for (unsigned n = 0; n < count; n++) {
    write32(bar + IRQ_RAISE, 1);
    wait_for(&seen, n + 1);
  }
  say("edu: storm of %u, %u seen", count, seen);
  check("edu", seen == count, "each interrupt of the storm, once");
}

/* For measuring: registers read one after the other, and pages moved to the device and back, an interrupt for each. */
void edu_reads(const struct function *pci, unsigned count) {
  uint32_t sum = 0;
  begin(pci);
  for (unsigned n = 0; n < count; n++) sum += read32(bar + LIVENESS);
  check("edu", sum == 0, "liveness is zero");
}

void edu_transfers(const struct function *pci, unsigned count) {
  unsigned expected = seen;
  begin(pci);
  use_pin(pci);
  for (unsigned n = 0; n < count; n++) {
    if (n & 1) transfer(BUFFER, (uint32_t)page, sizeof page, DMA_START | DMA_TO_RAM | DMA_INTERRUPT);
    else transfer((uint32_t)page, BUFFER, sizeof page, DMA_START | DMA_INTERRUPT);
    wait_next(false, &expected);
  }
}

/* Without bus mastering nothing may reach memory. The device does not say that it refused, so it is asked whether it is idle. */
void edu_without_master(const struct function *pci) {
  begin(pci);
  use_pin(pci);
  memset(page, 0x5a, sizeof page);
  config_write16(pci->slot, PCI_COMMAND, PCI_MEMORY);
  transfer(BUFFER, (uint32_t)page, sizeof page, DMA_START | DMA_TO_RAM);
  check("edu", (read32(bar + DMA_COMMAND) & DMA_START) == 0, "DMA is refused without bus mastering");
  bool same = true;
  for (unsigned n = 0; n < sizeof page; n++) same &= page[n] == 0x5a;
  check("edu", same, "memory is as it was");
  say("edu: refused");
}
