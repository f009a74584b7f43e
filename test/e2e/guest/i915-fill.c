/*
 * What a program of a guest does with its GPU, without any library: a rectangle filled by the blitter, in an address space of its own,
 * through the driver's execution call. Prints how many pixels have the colour, and how many have another one than before.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* The driver's calls. Source: Linux, include/uapi/drm/i915_drm.h. */
struct create { uint64_t size; uint32_t handle, pad; };
struct transfer { uint32_t handle, pad; uint64_t offset, size, data; };
struct object { uint32_t handle, relocations; uint64_t pointer, alignment, offset, flags, rsvd1, rsvd2; };
struct execute {
  uint64_t objects;
  uint32_t count, start, length, dr1, dr4, rectangles;
  uint64_t clips, flags, rsvd1, rsvd2;
};
struct wait { uint32_t handle, flags; int64_t timeout; };

#define CALL(direction, number, type) _IOC(direction, 'd', 0x40 + number, sizeof(type))
#define CREATE CALL(_IOC_READ | _IOC_WRITE, 0x1b, struct create)
#define READ CALL(_IOC_WRITE, 0x1c, struct transfer)
#define WRITE CALL(_IOC_WRITE, 0x1d, struct transfer)
#define EXECUTE CALL(_IOC_WRITE, 0x29, struct execute)
#define WAIT CALL(_IOC_READ | _IOC_WRITE, 0x2c, struct wait)
/* Objects: written to; addresses beyond 4 GiB are fine; placed where `offset` says. Execution: blitter, offsets are right. */
enum { OBJECT_WRITE = 1 << 2, OBJECT_WIDE = 1 << 3, OBJECT_PLACED = 1 << 4, ON_BLITTER = 3, NO_RELOCATIONS = 1 << 11 };

enum { SIDE = 64, BYTES = SIDE * SIDE * 4, X1 = 5, Y1 = 7, X2 = 41, Y2 = 50 };
static const uint64_t TARGET = 0x100000, BATCH = 0x200000;
static const uint32_t COLOUR = 0x00c0ffee;
static uint32_t pixels[SIDE * SIDE];

static int call(int gpu, unsigned long request, void *argument, const char *what) {
  if (ioctl(gpu, request, argument) == 0) return 0;
  perror(what);
  return -1;
}

int main(void) {
  int gpu = open("/dev/dri/renderD128", O_RDWR);
  struct create target = {.size = BYTES}, batch = {.size = 4096};
  if (gpu < 0 || call(gpu, CREATE, &target, "create") || call(gpu, CREATE, &batch, "create")) return 1;
  uint32_t commands[] = {
      0x54300005, 0x03f00000 | SIDE * 4, Y1 << 16 | X1, Y2 << 16 | X2, (uint32_t)TARGET, 0, COLOUR, 0x05000000,
  };
  struct transfer put = {.handle = batch.handle, .size = sizeof commands, .data = (uintptr_t)commands};
  if (call(gpu, WRITE, &put, "write")) return 1;
  struct object objects[] = {
      {.handle = target.handle, .offset = TARGET, .flags = OBJECT_PLACED | OBJECT_WIDE | OBJECT_WRITE},
      {.handle = batch.handle, .offset = BATCH, .flags = OBJECT_PLACED | OBJECT_WIDE},
  };
  struct execute job = {
      .objects = (uintptr_t)objects, .count = 2, .length = sizeof commands, .flags = ON_BLITTER | NO_RELOCATIONS};
  if (call(gpu, EXECUTE, &job, "execute")) return 1;
  struct wait wait = {.handle = target.handle, .timeout = 10000000000};
  struct transfer get = {.handle = target.handle, .size = BYTES, .data = (uintptr_t)pixels};
  if (call(gpu, WAIT, &wait, "wait") || call(gpu, READ, &get, "read")) return 1;
  int right = 0, wrong = 0;
  for (int y = 0; y < SIDE; y++)
    for (int x = 0; x < SIDE; x++) {
      int inside = x >= X1 && x < X2 && y >= Y1 && y < Y2;
      if (pixels[y * SIDE + x] == (inside ? COLOUR : 0)) right += inside;
      else wrong += 1;
    }
  printf("%d filled, %d wrong\n", right, wrong);
  return 0;
}
