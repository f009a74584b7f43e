/*
 * Direct I/O on a block device, timed one by one.
 * usage: disk-latency DEVICE read|write random|sequential BLOCK COUNT WORKERS
 * prints: nanoseconds of all, then the median and the 99th percentile of one transfer
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* what is read and written: the first 64 MiB */
static const uint64_t span = 64ull << 20;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void work(const char *const *argv, unsigned worker, uint64_t *times)
{
	int writes = !strcmp(argv[2], "write"), random = !strcmp(argv[3], "random");
	uint64_t block = strtoull(argv[4], 0, 0), count = strtoull(argv[5], 0, 0), seed = 88172645463325252ull + worker;
	int fd = open(argv[1], (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	void *buffer;

	if (fd < 0 || posix_memalign(&buffer, 4096, block)) {
		perror(argv[1]);
		exit(1);
	}
	memset(buffer, worker + 1, block);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = i;

		if (random) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			at = seed;
		}
		at = at % (span / block) * block;
		uint64_t began = now();
		ssize_t done = writes ? pwrite(fd, buffer, block, at) : pread(fd, buffer, block, at);

		times[i] = now() - began;
		if (done != (ssize_t)block) {
			perror("transfer");
			exit(1);
		}
	}
	exit(0);
}

int main(int argc, const char *const *argv)
{
	if (argc != 7)
		return 2;
	uint64_t count = strtoull(argv[5], 0, 0), workers = strtoull(argv[6], 0, 0);
	uint64_t all = count * workers;
	uint64_t *times = mmap(0, all * sizeof(*times), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t began = now();
	int failed = 0, status;

	for (uint64_t i = 0; i < workers; i++)
		if (fork() == 0)
			work(argv, i, times + i * count);
	while (wait(&status) > 0)
		failed |= status != 0;
	uint64_t took = now() - began;

	qsort(times, all, sizeof(*times), ascending);
	printf("%llu %llu %llu\n", (unsigned long long)took, (unsigned long long)times[all / 2],
	       (unsigned long long)times[all * 99 / 100]);
	return failed;
}
