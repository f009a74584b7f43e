/* PCI by configuration mechanism 1. */
#include "machine.h"

#define ADDRESS 0xcf8
#define DATA 0xcfc
#define FIRST_MEMORY 0xc0000000
#define FIRST_PORT 0xc000
#define DISPLAY 0xe0000000u
#define DISPLAY_END 0xe0100000u

static void select_register(unsigned slot, unsigned offset) { out32(ADDRESS, 0x80000000 | slot << 11 | (offset & 0xfc)); }

uint32_t config_read(unsigned slot, unsigned offset) {
  select_register(slot, offset);
  return in32(DATA);
}

void config_write(unsigned slot, unsigned offset, uint32_t value) {
  select_register(slot, offset);
  out32(DATA, value);
}

void config_write16(unsigned slot, unsigned offset, uint16_t value) {
  select_register(slot, offset);
  out16((uint16_t)(DATA + (offset & 2)), value);
}

unsigned find_capability(unsigned slot, unsigned id) {
  if (!(config_read(slot, PCI_COMMAND) & 0x100000)) return 0;
  unsigned at = config_read(slot, 0x34) & 0xfc;
  for (unsigned seen = 0; at && seen < 48; seen++) {
    uint32_t word = config_read(slot, at);
    if ((word & 0xff) == id) return at;
    at = word >> 8 & 0xfc;
  }
  return 0;
}

/* Sizes one BAR. Returns how many registers it takes. */
static unsigned size_bar(struct function *pci, unsigned n) {
  unsigned offset = 0x10 + n * 4;
  config_write(pci->slot, offset, 0xffffffff);
  uint32_t mask = config_read(pci->slot, offset);
  config_write(pci->slot, offset, 0);
  bool io = mask & 1, wide = !io && (mask & 6) == 4;
  uint32_t size = -(mask & (io ? ~3u : ~15u));
  pci->bars[n].io = io;
  pci->bars[n].size = mask == 0 ? 0 : io ? size & 0xffff : size;
  if (wide) config_write(pci->slot, offset + 4, 0);
  return wide ? 2 : 1;
}

/* The next address for a size; memory keeps off the emulator's display. */
static uint32_t place(uint32_t *next, uint32_t size) {
  uint32_t at = (*next + size - 1) & ~(size - 1);
  if (at < DISPLAY_END && at + size > DISPLAY) at = (DISPLAY_END + size - 1) & ~(size - 1);
  *next = at + size;
  return at;
}

/* The largest come first, so that nothing is lost between them. */
static void place_bars(struct function *functions, unsigned count) {
  uint32_t memory = FIRST_MEMORY, ports = FIRST_PORT;
  for (uint32_t size = 0x80000000; size >= 4; size >>= 1) {
    for (unsigned f = 0; f < count; f++) {
      for (unsigned n = 0; n < 6; n++) {
        if (functions[f].bars[n].size != size) continue;
        functions[f].bars[n].at = place(functions[f].bars[n].io ? &ports : &memory, size);
        config_write(functions[f].slot, 0x10 + n * 4, functions[f].bars[n].at);
      }
    }
  }
}

unsigned find_functions(struct function *functions, unsigned most) {
  unsigned count = 0;
  for (unsigned slot = 1; slot < 32 && count < most; slot++) {
    uint32_t id = config_read(slot, 0);
    if (id == 0xffffffff) continue;
    struct function *pci = &functions[count++];
    memset(pci, 0, sizeof *pci);
    pci->slot = slot;
    pci->id = id;
    pci->class_code = config_read(slot, 8) >> 8;
    pci->line = config_read(slot, 0x3c) & 0xff;
    config_write16(slot, PCI_COMMAND, 0);
    for (unsigned n = 0; n < 6;) n += size_bar(pci, n);
  }
  place_bars(functions, count);
  for (unsigned n = 0; n < count; n++) config_write16(functions[n].slot, PCI_COMMAND, PCI_IO | PCI_MEMORY | PCI_MASTER);
  return count;
}

static bool use_msi(const struct function *pci, unsigned n) {
  unsigned at = find_capability(pci->slot, 5);
  if (!at) return false;
  bool wide = config_read(pci->slot, at) >> 16 & 0x80;
  config_write(pci->slot, at + 4, 0xfee00000);
  if (wide) config_write(pci->slot, at + 8, 0);
  config_write16(pci->slot, at + (wide ? 12 : 8), (uint16_t)(MESSAGE_VECTOR + n));
  config_write16(pci->slot, at + 2, (uint16_t)((config_read(pci->slot, at) >> 16 & ~0x70) | 1));
  return true;
}

static bool use_msix(const struct function *pci, unsigned n) {
  unsigned at = find_capability(pci->slot, 0x11);
  if (!at) return false;
  unsigned count = (config_read(pci->slot, at) >> 16 & 0x7ff) + 1;
  uint32_t place = config_read(pci->slot, at + 4);
  uint32_t table = pci->bars[place & 7].at + (place & ~7u);
  config_write16(pci->slot, at + 2, 0xc000);
  for (unsigned entry = 0; entry < count; entry++) {
    write32(table + entry * 16, 0xfee00000);
    write32(table + entry * 16 + 4, 0);
    write32(table + entry * 16 + 8, MESSAGE_VECTOR + n);
    write32(table + entry * 16 + 12, 0);
  }
  config_write16(pci->slot, at + 2, 0x8000);
  return true;
}

bool use_messages(const struct function *pci, unsigned n) { return use_msix(pci, n) || use_msi(pci, n); }

void use_pin(const struct function *pci) {
  unsigned msi = find_capability(pci->slot, 5), msix = find_capability(pci->slot, 0x11);
  if (msi) config_write16(pci->slot, msi + 2, 0);
  if (msix) config_write16(pci->slot, msix + 2, 0);
}
