/*
 * Drives every PCI function it knows and says how it went; the exit code is the number of failures. The command line chooses
 * something else: see the list in modes.
 */
#include "machine.h"

void set_command_line(uint32_t *info);
static struct function functions[16];
static unsigned count;

static const struct function *find(uint32_t id) {
  for (unsigned n = 0; n < count; n++) if (functions[n].id == id) return &functions[n];
  return NULL;
}

static const struct { uint32_t id; void (*drive)(const struct function *); } drivers[] = {
  {ID_EDU, drive_edu}, {ID_GPIO, drive_gpio}, {ID_NVME, drive_nvme}, {ID_DISK, drive_disk},
};

static void drive_all(void) {
  unsigned driven = 0;
  for (unsigned n = 0; n < count; n++) {
    for (unsigned d = 0; d < sizeof drivers / sizeof *drivers; d++) {
      if (drivers[d].id != functions[n].id) continue;
      drivers[d].drive(&functions[n]);
      driven++;
    }
  }
  say("done: %u functions, %u driven, %u failures", count, driven, failures);
}

/* One address for two functions: the lower slot answers, and both are well when they are apart again. */
static void overlap(void) {
  const struct function *first = &functions[0], *second = &functions[1];
  uint32_t mine = read32(first->bars[0].at), other = read32(second->bars[0].at);
  config_write(second->slot, 0x10, first->bars[0].at);
  check("overlap", read32(first->bars[0].at) == mine, "the lower slot answers");
  config_write(second->slot, 0x10, second->bars[0].at);
  check("overlap", read32(second->bars[0].at) == other, "apart again");
  /* Over RAM: the CPU sees RAM, and the device nothing of it. */
  static volatile uint32_t word = 0x600d;
  config_write(first->slot, 0x10, (uint32_t)&word & ~0xfffffu);
  check("overlap", word == 0x600d, "RAM answers");
  config_write(first->slot, 0x10, first->bars[0].at);
  check("overlap", read32(first->bars[0].at) == mine, "back again");
  say("overlap: done");
}

/* An interrupt that nobody quiets: the line stays up, and the CPU comes to nothing else until the device is gone. */
static volatile unsigned stuck;
static bool leave_it(void) { return ++stuck > 0; }
static void stay_stuck(const struct function *edu) {
  on_line(edu->line, leave_it);
  use_pin(edu);
  __asm__ volatile("sti");
  say("stuck: raising");
  write32(edu->bars[0].at + 0x60, 1);
  while (config_read(edu->slot, 0) != 0xffffffff) {}
  check("stuck", stuck > 1, "the interrupt came again and again");
  say("stuck: free");
}

/* Reads and writes where nothing is, or where the end of something is; only the machine's own state must survive it. */
static void wild(void) {
  static const uint32_t places[] = {0xa0000, 0xbfffc, 0x40000000, 0x7ffffffc, 0xbffffffc, 0xd0000000, 0xdffffffe, 0xf0000000, 0xfec00000,
    0xff000000, 0xfffffff0};
  uint32_t sum = 0;
  for (unsigned n = 0; n < sizeof places / sizeof *places; n++) {
    sum += read32(places[n]) + read8(places[n] + 1);
    write32(places[n], 0xdeadbeef);
    *(volatile uint8_t *)places[n] = 1;
    *(volatile uint16_t *)(places[n] + 1) = 2;
  }
  for (unsigned n = 0; n < count; n++) {
    for (unsigned b = 0; b < 6; b++) {
      uint32_t end = functions[n].bars[b].at + functions[n].bars[b].size;
      if (!functions[n].bars[b].size) continue;
      if (functions[n].bars[b].io) sum += in32((uint16_t)(end - 1)), out32((uint16_t)(end - 2), sum);
      else sum += read32(end - 2), write32(end - 1, sum);
    }
  }
  for (uint32_t address = 0; address < 0x20000; address += 252) {
    out32(0xcf8, 0x80000000 | address << 7);
    sum += in32(0xcfc) + in8(0xcff);
  }
  out8(0xcf9, 2);
  out16(0xcfa, 0xffff);
  sum += in16(0xcf8);
  check("wild", config_read(0, 0) == 0x12378086, "the host bridge is there");
  say("wild: survived %u", sum != 1);
}

/* Nobody ever counts this. */
static volatile unsigned never;

int kernel_main(uint32_t *info) {
  set_command_line(info);
  start_interrupts();
  count = find_functions(functions, 16);
  const struct function *edu = find(ID_EDU), *nvme = find(ID_NVME);
  if (asked("list")) for (unsigned n = 0; n < count; n++) say("slot %u: %x class %x line %u", functions[n].slot, functions[n].id, functions[n].class_code, functions[n].line);
  else if (asked("storm") && edu) edu_storm(edu, number_of("storm", 100));
  else if (asked("reads") && edu) edu_reads(edu, number_of("reads", 1000));
  else if (asked("transfers") && edu) edu_transfers(edu, number_of("transfers", 1000));
  else if (asked("stuck") && edu) stay_stuck(edu);
  else if (asked("masterless") && edu) edu_without_master(edu);
  else if (asked("forever") && nvme) nvme_forever(nvme);
  else if (asked("unplug") && nvme) nvme_until_gone(nvme);
  else if (asked("overlap") && count > 1) overlap();
  else if (asked("wild")) wild();
  else if (asked("fault")) ((void (*)(void))0xf0000000)();
  else if (asked("runaway")) {
    uint32_t to = 0x40000000, many = 0xffffffff;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(many) : "d"(0xf0) : "memory");
  } else if (asked("spin")) for (;;) {}
  else if (asked("wait")) {
    say("wait: sleeping");
    wait_for(&never, 1);
  } else if (asked("sleep")) __asm__ volatile("cli; hlt");
  else drive_all();
  return (int)failures;
}
