/*
 * What a wire costs, in C. Prints nanoseconds per operation as one JSON object.
 *   wire pingpong COUNT        two processes, 64 bytes each way, by one recv per message and by two (header, body)
 *   wire client PATH COUNT     a vfio-user client against the server at PATH
 * Both ends run where the caller pins them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64
#define HEADER 16
#define DEPTH 16
#define PAGE 4096u

enum { VERSION = 1, DMA_MAP = 2, DMA_UNMAP = 3, REGION_READ = 9, REGION_WRITE = 10 };
enum { NO_REPLY = 0x10, ERROR = 0x20 };

struct header { uint16_t id, command; uint32_t size, flags, error; };
struct map { struct header head; uint32_t argsz, flags; uint64_t offset, address, size; };
struct unmap { struct header head; uint32_t argsz, flags; uint64_t address, size; };
struct access { struct header head; uint64_t offset; uint32_t region, count; uint32_t data; } __attribute__((packed));

static int wire, memory, rows;
static uint16_t next_id;

static void fail(const char *what)
{
	fprintf(stderr, "wire: %s\n", what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void send_all(const void *bytes, size_t size, int fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec io = { (void *)bytes, size };
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
	if (sendmsg(wire, &message, MSG_NOSIGNAL) != (ssize_t)size) fail("short send");
}

static void receive_all(int fd, void *bytes, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t count = recv(fd, (char *)bytes + done, size - done, 0);
		if (count <= 0) fail("the other side is gone");
		done += count;
	}
}

/* One reply: its header, then its body. */
static void receive_reply(void)
{
	struct header head;
	char body[4096];
	receive_all(wire, &head, sizeof head);
	if (head.flags & ERROR) fail("an error reply");
	if (head.size > sizeof body) fail("a reply that is too long");
	if (head.size > sizeof head) receive_all(wire, body, head.size - sizeof head);
}

static struct header header(int command, size_t size, uint32_t flags)
{
	return (struct header){ next_id++, command, size, flags, 0 };
}

static void send_map(uint64_t address, int fd)
{
	struct map m = { header(DMA_MAP, sizeof m, 0), 32, 3, 0, address, PAGE };
	send_all(&m, sizeof m, fd);
}

static void send_unmap(uint64_t address)
{
	struct unmap u = { header(DMA_UNMAP, sizeof u, 0), 24, 0, address, PAGE };
	send_all(&u, sizeof u, -1);
}

static void send_access(int command, uint32_t flags)
{
	struct access a = { header(command, 0, flags), 16, 0, 4, 0x12345678 };
	a.head.size = command == REGION_WRITE ? sizeof a : sizeof a - 4;
	send_all(&a, a.head.size, -1);
}

static void read_register(void)
{
	send_access(REGION_READ, 0);
	receive_reply();
}

static void write_register(void)
{
	send_access(REGION_WRITE, 0);
	receive_reply();
}

static void post_write(void) { send_access(REGION_WRITE, NO_REPLY); }

static void pair(int fd)
{
	send_map(0x100000, fd);
	receive_reply();
	send_unmap(0x100000);
	receive_reply();
}

static void pair_fd(void) { pair(memory); }
static void pair_plain(void) { pair(-1); }

/* DEPTH pairs in flight: all maps, all unmaps, then all replies. */
static void pairs(int fd)
{
	for (int i = 0; i < DEPTH; i++) send_map(0x100000 + i * PAGE, fd);
	for (int i = 0; i < DEPTH; i++) send_unmap(0x100000 + i * PAGE);
	for (int i = 0; i < 2 * DEPTH; i++) receive_reply();
}

static void pairs_fd(void) { pairs(memory); }
static void pairs_plain(void) { pairs(-1); }

/* `width`: how many operations one call is. */
static void measure(const char *name, void (*run)(void), int count, int width)
{
	count /= width;
	for (int i = 0; i < count / 5; i++) run();
	read_register();
	double begin = now();
	for (int i = 0; i < count; i++) run();
	read_register(); /* a later reply means that everything before it is done */
	printf("%s\"%s\":%.1f", rows++ == 0 ? "{" : ",", name, (now() - begin) / ((double)count * width));
}

static void negotiate(void)
{
	static const char json[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}";
	char message[HEADER + 4 + sizeof json] = { 0 };
	struct header head = header(VERSION, sizeof message, 0);
	memcpy(message, &head, sizeof head);
	memcpy(message + HEADER + 4, json, sizeof json);
	send_all(message, sizeof message, -1);
	receive_reply();
}

static void client(const char *path, int count)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	wire = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (wire < 0 || connect(wire, (struct sockaddr *)&address, sizeof address) != 0) fail("cannot connect");
	memory = memfd_create("wire", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0 || ftruncate(memory, PAGE) != 0 || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) != 0) fail("memfd");
	negotiate();
	measure("read 4 B", read_register, count, 1);
	measure("write 4 B", write_register, count, 1);
	measure("posted write 4 B", post_write, count, 1);
	measure("map and unmap with fd", pair_fd, count / 4, 1);
	measure("map and unmap with fd, 16 pipelined", pairs_fd, count / 4, DEPTH);
	measure("map and unmap without fd", pair_plain, count / 4, 1);
	measure("map and unmap without fd, 16 pipelined", pairs_plain, count / 4, DEPTH);
	printf("}\n");
}

/* One 64-byte message; `parts` 2: the header by a call of its own. */
static void receive_message(int fd, char *bytes, int parts)
{
	if (parts == 2) receive_all(fd, bytes, HEADER);
	receive_all(fd, bytes + (parts == 2 ? HEADER : 0), parts == 2 ? MESSAGE - HEADER : MESSAGE);
}

static double ping(int count, int parts)
{
	int ends[2];
	char bytes[MESSAGE] = { 0 };
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair");
	int warm = count / 5;
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < count + warm; i++) {
			receive_message(ends[1], bytes, parts);
			if (send(ends[1], bytes, MESSAGE, MSG_NOSIGNAL) != MESSAGE) _exit(1);
		}
		_exit(0);
	}
	double begin = 0;
	for (int i = 0; i < count + warm; i++) {
		if (i == warm) begin = now();
		if (send(ends[0], bytes, MESSAGE, MSG_NOSIGNAL) != MESSAGE) fail("send");
		receive_message(ends[0], bytes, parts);
	}
	double took = now() - begin;
	waitpid(child, NULL, 0);
	close(ends[0]);
	close(ends[1]);
	return took / count;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "pingpong") == 0) {
		double one = ping(atoi(argv[2]), 1), two = ping(atoi(argv[2]), 2);
		printf("{\"one recv\":%.1f,\"two recvs\":%.1f}\n", one, two);
		return 0;
	}
	if (argc != 4 || strcmp(argv[1], "client") != 0) fail("usage: wire pingpong COUNT | client PATH COUNT");
	client(argv[2], atoi(argv[3]));
	return 0;
}
