/* The console, strings, interrupts. */
#include <stdarg.h>
#include "machine.h"

#define SERIAL 0x3f8
#define EXIT 0xf4
#define APIC 0xfee00000

unsigned failures;
volatile unsigned interrupts[0x60];
static const char *command_line = "";
static struct { uint16_t low, segment, type, high; } __attribute__((packed)) gates[0x60];
static struct { unsigned line; handler_t handler; } handlers[8];
static unsigned handler_count;
extern uint8_t interrupt_stubs[];

static void put(char c) {
  while (!(in8(SERIAL + 5) & 0x20)) {}
  out8(SERIAL, (uint8_t)c);
}

static void put_number(uint32_t value, uint32_t base) {
  if (value >= base) put_number(value / base, base);
  put("0123456789abcdef"[value % base]);
}

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  for (; *format; format++) {
    if (*format != '%') put(*format);
    else if (*++format == 's') for (const char *s = va_arg(arguments, const char *); *s; s++) put(*s);
    else put_number(va_arg(arguments, uint32_t), *format == 'x' ? 16 : 10);
  }
  va_end(arguments);
  put('\n');
}

bool check(const char *device, bool ok, const char *what) {
  if (ok) return true;
  failures++;
  say("%s: FAIL %s", device, what);
  return false;
}

/* Received characters wait here; the interrupt fills it. */
static char input[256];
static volatile unsigned received;
static unsigned taken;
static volatile unsigned lines;

static bool on_console(void) {
  bool any = false;
  for (; in8(SERIAL + 5) & 1; any = true) {
    char c = (char)in8(SERIAL);
    input[received++ % sizeof input] = c;
    if (c == '\n') lines++;
  }
  return any;
}

void start_console(void) {
  on_line(4, on_console);
  out8(0x21, in8(0x21) & (uint8_t)~0x10);
  out8(SERIAL + 1, 1);
}

void read_line(char *line, unsigned most) {
  static unsigned read;
  wait_for(&lines, ++read);
  unsigned length = 0;
  for (char c; (c = input[taken++ % sizeof input]) != '\n';) if (length + 1 < most) line[length++] = c;
  line[length] = 0;
}

void leave_machine(uint32_t code) {
  for (;;) {
    out32(EXIT, code);
    __asm__ volatile("cli; hlt");
  }
}

void *memset(void *to, int byte, size_t count) {
  void *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(byte) : "memory");
  return to;
}

void *memcpy(void *to, const void *from, size_t count) {
  void *at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
  return to;
}

int memcmp(const void *a, const void *b, size_t count) {
  const uint8_t *x = a, *y = b;
  for (; count; count--, x++, y++) if (*x != *y) return *x - *y;
  return 0;
}

/* The word's end in the command line; NULL if it is not there. */
static const char *find_word(const char *word) {
  for (const char *at = command_line; *at; at++) {
    const char *w = word, *end = at;
    while (*w && *w == *end) w++, end++;
    if (!*w && (at == command_line || at[-1] == ' ') && (!*end || *end == ' ' || *end == '=')) return end;
  }
  return NULL;
}

bool asked(const char *word) { return find_word(word) != NULL; }

unsigned number_of(const char *word, unsigned otherwise) {
  const char *at = find_word(word);
  if (!at || *at != '=') return otherwise;
  unsigned value = 0;
  while (*++at >= '0' && *at <= '9') value = value * 10 + (unsigned)(*at - '0');
  return value;
}

void interrupt(unsigned vector) {
  if (vector < PIC_VECTOR) {
    say("kernel: FAIL exception %u", vector);
    leave_machine(0xee);
  }
  if (vector >= MESSAGE_VECTOR) {
    interrupts[vector]++;
    write32(APIC + 0xb0, 0);
    return;
  }
  /* A shared line: everybody who has it is asked. */
  for (unsigned n = 0; n < handler_count; n++) {
    if (handlers[n].line + PIC_VECTOR == vector && handlers[n].handler()) interrupts[vector]++;
  }
  if (vector >= PIC_VECTOR + 8) out8(0xa0, 0x20);
  out8(0x20, 0x20);
}

void on_line(unsigned line, handler_t handler) {
  handlers[handler_count].line = line;
  handlers[handler_count++].handler = handler;
}

/* All but the console's. */
void forget_lines(void) {
  unsigned kept = 0;
  for (unsigned n = 0; n < handler_count; n++) if (handlers[n].handler == on_console) handlers[kept++] = handlers[n];
  handler_count = kept;
}

static void start_pic(void) {
  static const uint8_t words[][2] = {{0x11, 0x11}, {PIC_VECTOR, PIC_VECTOR + 8}, {4, 2}, {1, 1}};
  out8(0x20, words[0][0]);
  out8(0xa0, words[0][1]);
  for (unsigned n = 1; n < 4; n++) {
    out8(0x21, words[n][0]);
    out8(0xa1, words[n][1]);
  }
  /* PCI's lines 10 and 11 are levels; nothing else is let through but the cascade. */
  out8(0x4d1, 0x0c);
  out8(0x21, 0xfb);
  out8(0xa1, 0xf3);
}

void start_interrupts(void) {
  struct { uint16_t size; uint32_t at; } __attribute__((packed)) pointer = {sizeof gates - 1, (uint32_t)gates};
  for (unsigned vector = 0; vector < 0x60; vector++) {
    uint32_t at = (uint32_t)interrupt_stubs + vector * 8;
    gates[vector].low = (uint16_t)at;
    gates[vector].segment = 8;
    gates[vector].type = 0x8e00;
    gates[vector].high = (uint16_t)(at >> 16);
  }
  __asm__ volatile("lidt %0" ::"m"(pointer));
  start_pic();
  write32(APIC + 0xf0, 0x1ff);
}

void wait_for(volatile unsigned *counter, unsigned at_least) {
  for (;;) {
    __asm__ volatile("cli");
    if (*counter >= at_least) break;
    __asm__ volatile("sti; hlt");
  }
  __asm__ volatile("sti");
}

int kernel_main(uint32_t *info);
void set_command_line(uint32_t *info) {
  if (info[0] & 4) command_line = (const char *)info[4];
}
