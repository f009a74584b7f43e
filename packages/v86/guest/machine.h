/* What this little kernel knows of its PC: ports, the console, interrupts, PCI configuration. */
#ifndef MACHINE_H
#define MACHINE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory"); }
static inline void out16(uint16_t port, uint16_t value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory"); }
static inline void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory"); }
static inline uint8_t in8(uint16_t port) { uint8_t value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory"); return value; }
static inline uint16_t in16(uint16_t port) { uint16_t value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory"); return value; }
static inline uint32_t in32(uint16_t port) { uint32_t value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory"); return value; }
static inline uint32_t read32(uint32_t at) { return *(volatile uint32_t *)at; }
static inline void write32(uint32_t at, uint32_t value) { *(volatile uint32_t *)at = value; }
static inline uint8_t read8(uint32_t at) { return *(volatile uint8_t *)at; }

/* Prints with %s, %u, %x (no widths) and ends the line. */
void say(const char *format, ...);
/* Says `DEVICE: FAIL what` and counts it, unless `ok`. Returns ok. */
bool check(const char *device, bool ok, const char *what);
extern unsigned failures;
/* Input: a line of the console without its end; sleeps until it is there. `start_console` lets the port interrupt. */
void start_console(void);
void read_line(char *line, unsigned most);
/* Ends the machine with a code; does not return. */
void leave_machine(uint32_t code);
/* Whether a word stands in the command line, and the number behind `word=`. */
bool asked(const char *word);
unsigned number_of(const char *word, unsigned otherwise);

void *memset(void *to, int byte, size_t count);
void *memcpy(void *to, const void *from, size_t count);
int memcmp(const void *a, const void *b, size_t count);

/* Interrupts: vector 0x20 + line for the lines of the PIC, MESSAGE_VECTOR + n for messages. */
#define PIC_VECTOR 0x20
#define MESSAGE_VECTOR 0x50
extern volatile unsigned interrupts[0x60];
/* Called at every interrupt of a line, to quiet who asks for it: returns true if it was this device. */
typedef bool (*handler_t)(void);
void on_line(unsigned line, handler_t handler);
void forget_lines(void);
void start_interrupts(void);
/* Sleeps until `*counter` is `at least`. */
void wait_for(volatile unsigned *counter, unsigned at_least);

/* PCI, bus 0. */
struct function {
  unsigned slot;
  uint32_t id, class_code;
  unsigned line;
  struct { uint32_t at, size; bool io; } bars[6];
};
#define PCI_COMMAND 0x04
#define PCI_IO 1
#define PCI_MEMORY 2
#define PCI_MASTER 4
uint32_t config_read(unsigned slot, unsigned offset);
void config_write(unsigned slot, unsigned offset, uint32_t value);
void config_write16(unsigned slot, unsigned offset, uint16_t value);
unsigned find_capability(unsigned slot, unsigned id);
/* Finds every function, sizes and places its BARs, and turns decoding and bus mastering on. Returns how many. */
unsigned find_functions(struct function *functions, unsigned most);
/* Sends message 0 to MESSAGE_VECTOR + n: by MSI, or by MSI-X (every entry to the same). Returns false if it has neither. */
bool use_messages(const struct function *pci, unsigned n);
void use_pin(const struct function *pci);

void drive_edu(const struct function *pci);
void drive_gpio(const struct function *pci);
void drive_nvme(const struct function *pci);
void drive_disk(const struct function *pci);
void edu_storm(const struct function *pci, unsigned count);
void edu_reads(const struct function *pci, unsigned count);
void edu_transfers(const struct function *pci, unsigned count);
void edu_without_master(const struct function *pci);
void nvme_forever(const struct function *pci);
void nvme_until_gone(const struct function *pci);

/* Blocks of 512 bytes; `memory` begins a page. True if all went well. */
bool nvme_open(const struct function *pci);
bool nvme_read(void *memory, uint32_t first, uint32_t blocks);
bool nvme_close(void);
bool disk_open(const struct function *pci);
bool disk_transfer(bool write, uint32_t first, void *memory, uint32_t blocks);
void gpio_set(const struct function *pci, uint16_t levels);
uint16_t gpio_get(const struct function *pci);

struct rectangle { uint32_t left, top, right, bottom; };
bool vgpu_start(const struct function *pci);
/* Shows memory to the GPU. Returns its graphics address. */
uint32_t vgpu_map(const void *memory, uint32_t bytes);
void vgpu_fill(uint32_t target, uint32_t width, struct rectangle r, uint32_t color);
void vgpu_copy(uint32_t target, uint32_t width, struct rectangle r, uint32_t source, uint32_t source_width);
bool vgpu_run(void);
void vgpu_show(uint32_t surface, uint32_t width, uint32_t height);

#define ID_EDU 0x11e81234
#define ID_GPIO 0x0dc8494f
#define ID_NVME 0x11f51234
#define ID_DISK 0x00011de5
#define ID_VGPU 0x19128086
#endif
