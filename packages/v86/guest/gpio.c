/* Driver for ACCES PCI-IDIO-16; its outputs are wired to its inputs. */
#include "machine.h"

enum { OUT_LOW = 0, IN_LOW = 1, IRQ_CONTROL = 2, OUT_HIGH = 4, IN_HIGH = 5, IRQ_STATUS = 6 };
static uint16_t base;
static volatile unsigned seen;

static bool on_interrupt(void) {
  if (!(in8((uint16_t)(base + IRQ_STATUS)) & 4)) return false;
  out8((uint16_t)(base + IN_LOW), 0);
  seen++;
  return true;
}

static void set(uint16_t levels) {
  out8((uint16_t)(base + OUT_LOW), (uint8_t)levels);
  out8((uint16_t)(base + OUT_HIGH), (uint8_t)(levels >> 8));
}

static uint16_t get(void) { return (uint16_t)(in8((uint16_t)(base + IN_LOW)) | in8((uint16_t)(base + IN_HIGH)) << 8); }

void gpio_set(const struct function *pci, uint16_t levels) {
  base = (uint16_t)pci->bars[2].at;
  set(levels);
}

uint16_t gpio_get(const struct function *pci) {
  base = (uint16_t)pci->bars[2].at;
  return get();
}

void drive_gpio(const struct function *pci) {
  unsigned before = failures;
  check("gpio", pci->bars[2].io && pci->bars[2].size == 256, "256 ports behind BAR 2");
  base = (uint16_t)pci->bars[2].at;
  for (unsigned n = 0; n < 16; n++) {
    set((uint16_t)(1u << n));
    check("gpio", get() == 1u << n, "one line after the other");
  }
  check("gpio", seen == 0, "no interrupt before they are on");
  forget_lines();
  on_line(pci->line, on_interrupt);
  in8((uint16_t)(base + IRQ_CONTROL));
  out8((uint16_t)(base + OUT_LOW), 0x55);
  wait_for(&seen, 1);
  out8((uint16_t)(base + OUT_LOW), 0xaa);
  wait_for(&seen, 2);
  out8((uint16_t)(base + IRQ_CONTROL), 0);
  set(0);
  check("gpio", seen == 2, "one interrupt for each change");
  config_write16(pci->slot, PCI_COMMAND, 0);
  check("gpio", in8((uint16_t)(base + IN_LOW)) == 0xff, "ones while I/O decoding is off");
  config_write16(pci->slot, PCI_COMMAND, PCI_IO);
  if (failures == before) say("gpio: ok, %u interrupts", seen);
}
