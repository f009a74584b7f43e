/* The same calls as calls.bench.ts, in C. Prints nanoseconds per operation as one JSON object. argv: operations per measurement. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define MESSAGE 64

static int pair[2], memory, event;
static char bytes[PAGE];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void transfer(int fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec io = { bytes, MESSAGE };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &fd, sizeof fd);
	}
	if (sendmsg(pair[0], &message, MSG_NOSIGNAL) != MESSAGE) abort();
	message.msg_control = control;
	message.msg_controllen = sizeof control;
	if (recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) != MESSAGE) abort();
	if (fd >= 0) {
		int received;
		memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
		close(received);
	}
}

static void message_plain(void) { transfer(-1); }
static void message_fd(void) { transfer(memory); }
static void eventfd_pair(void)
{
	uint64_t value = 1;
	if (write(event, &value, 8) != 8 || read(event, &value, 8) != 8) abort();
}
static void read_page(void)
{
	if (pread(memory, bytes, PAGE, 0) != PAGE) abort();
}
static void map_pair(void)
{
	void *at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (at == MAP_FAILED || munmap(at, PAGE)) abort();
}
static void map_touch(void)
{
	volatile char *at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (at == MAP_FAILED) abort();
	at[0] = 1;
	if (munmap((void *)at, PAGE)) abort();
}
static void one_call(void)
{
	if (fcntl(memory, F_GET_SEALS) < 0) abort();
}

static double measure(void (*operation)(void), long count)
{
	for (long i = 0; i < count / 10; i++) operation();
	double begin = now();
	for (long i = 0; i < count; i++) operation();
	return (now() - begin) / count;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 10000;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) abort();
	memory = memfd_create("yardstick", 0);
	event = eventfd(0, EFD_NONBLOCK);
	if (ftruncate(memory, 16 * PAGE)) abort();
	printf("{\"call\":%.1f,\"eventfd\":%.1f,\"pread\":%.1f,\"message\":%.1f,\"message with fd\":%.1f,\"map\":%.1f,\"map and touch\":%.1f}\n",
	       measure(one_call, count), measure(eventfd_pair, count), measure(read_page, count), measure(message_plain, count),
	       measure(message_fd, count), measure(map_pair, count), measure(map_touch, count));
	return 0;
}
