/*
 * The yardstick of the DMA cache's benchmark: entries of which each stands in two red-black trees, by guest frame and by DMA frame,
 * allocated one by one, as a driver in C would do it. The tree is written after Cormen et al., chapter 13 (nil sentinel, parent
 * pointers); it shares no code with any kernel.
 *
 *   two-trees ORDER COUNT STRIDE        ORDER: sequential | random
 *
 * prints one JSON object: nanoseconds per operation, by name, and bytes per entry. The order is that of the JavaScript side: both draw
 * from the same generator.
 */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { BY_GFN, BY_DMA, TREES };

struct links {
	struct entry *left, *right, *parent;
};
struct entry {
	struct links in[TREES];
	uint64_t key[TREES];
	uint32_t references;
	uint8_t red[TREES];
	uint8_t large;
};
_Static_assert(sizeof(struct entry) == 72, "an entry and malloc's header are 80 bytes");

static struct entry nil_entry;
static struct entry *const nil = &nil_entry;
static struct entry *root[TREES] = { &nil_entry, &nil_entry };

static void replace(int t, struct entry *n, struct entry *by)
{
	struct entry *parent = n->in[t].parent;
	if (parent == nil)
		root[t] = by;
	else if (n == parent->in[t].left)
		parent->in[t].left = by;
	else
		parent->in[t].right = by;
	by->in[t].parent = parent;
}

static void rotate_left(int t, struct entry *n)
{
	struct entry *child = n->in[t].right;
	n->in[t].right = child->in[t].left;
	if (child->in[t].left != nil)
		child->in[t].left->in[t].parent = n;
	replace(t, n, child);
	child->in[t].left = n;
	n->in[t].parent = child;
}

static void rotate_right(int t, struct entry *n)
{
	struct entry *child = n->in[t].left;
	n->in[t].left = child->in[t].right;
	if (child->in[t].right != nil)
		child->in[t].right->in[t].parent = n;
	replace(t, n, child);
	child->in[t].right = n;
	n->in[t].parent = child;
}

static void insert(int t, struct entry *n)
{
	struct entry *parent = nil;
	for (struct entry *at = root[t]; at != nil; at = n->key[t] < at->key[t] ? at->in[t].left : at->in[t].right)
		parent = at;
	n->in[t] = (struct links){ nil, nil, parent };
	n->red[t] = 1;
	if (parent == nil)
		root[t] = n;
	else if (n->key[t] < parent->key[t])
		parent->in[t].left = n;
	else
		parent->in[t].right = n;
	while ((parent = n->in[t].parent)->red[t]) {
		struct entry *grand = parent->in[t].parent;
		int left = parent == grand->in[t].left;
		struct entry *uncle = left ? grand->in[t].right : grand->in[t].left;
		grand->red[t] = 1;
		if (uncle->red[t]) {
			uncle->red[t] = parent->red[t] = 0;
			n = grand;
			continue;
		}
		if (n == (left ? parent->in[t].right : parent->in[t].left)) {
			left ? rotate_left(t, parent) : rotate_right(t, parent);
			n->red[t] = 0;
			n = parent;
		} else {
			parent->red[t] = 0;
		}
		left ? rotate_right(t, grand) : rotate_left(t, grand);
	}
	root[t]->red[t] = 0;
}

static void fix_erase(int t, struct entry *n)
{
	while (n != root[t] && !n->red[t]) {
		struct entry *parent = n->in[t].parent;
		int left = n == parent->in[t].left;
		struct entry *sibling = left ? parent->in[t].right : parent->in[t].left;
		struct entry *far;
		if (sibling->red[t]) {
			sibling->red[t] = 0;
			parent->red[t] = 1;
			left ? rotate_left(t, parent) : rotate_right(t, parent);
			sibling = left ? parent->in[t].right : parent->in[t].left;
		}
		if (!sibling->in[t].left->red[t] && !sibling->in[t].right->red[t]) {
			sibling->red[t] = 1;
			n = parent;
			continue;
		}
		far = left ? sibling->in[t].right : sibling->in[t].left;
		if (!far->red[t]) {
			(left ? sibling->in[t].left : sibling->in[t].right)->red[t] = 0;
			sibling->red[t] = 1;
			left ? rotate_right(t, sibling) : rotate_left(t, sibling);
			sibling = left ? parent->in[t].right : parent->in[t].left;
		}
		sibling->red[t] = parent->red[t];
		parent->red[t] = 0;
		(left ? sibling->in[t].right : sibling->in[t].left)->red[t] = 0;
		left ? rotate_left(t, parent) : rotate_right(t, parent);
		n = root[t];
	}
	n->red[t] = 0;
}

static void erase(int t, struct entry *n)
{
	int lost_red = n->red[t];
	struct entry *hole;
	if (n->in[t].left == nil || n->in[t].right == nil) {
		hole = n->in[t].left == nil ? n->in[t].right : n->in[t].left;
		replace(t, n, hole);
	} else {
		struct entry *next = n->in[t].right;
		while (next->in[t].left != nil)
			next = next->in[t].left;
		lost_red = next->red[t];
		hole = next->in[t].right;
		if (next->in[t].parent == n) {
			hole->in[t].parent = next;
		} else {
			replace(t, next, hole);
			next->in[t].right = n->in[t].right;
			next->in[t].right->in[t].parent = next;
		}
		replace(t, n, next);
		next->in[t].left = n->in[t].left;
		next->in[t].left->in[t].parent = next;
		next->red[t] = n->red[t];
	}
	if (!lost_red)
		fix_erase(t, hole);
}

static struct entry *find(int t, uint64_t key)
{
	struct entry *n = root[t];
	while (n != nil && n->key[t] != key)
		n = key < n->key[t] ? n->in[t].left : n->in[t].right;
	return n == nil ? NULL : n;
}

static void map(uint64_t gfn)
{
	struct entry *n = find(BY_GFN, gfn);
	if (n != NULL) {
		n->references++;
		return;
	}
	n = malloc(sizeof(*n));
	if (n == NULL)
		abort();
	n->key[BY_GFN] = n->key[BY_DMA] = gfn;
	n->references = 1;
	insert(BY_GFN, n);
	insert(BY_DMA, n);
}

static void release(struct entry *n)
{
	erase(BY_GFN, n);
	erase(BY_DMA, n);
	free(n);
}

static void unmap(uint64_t dma)
{
	struct entry *n = find(BY_DMA, dma);
	if (n != NULL && --n->references == 0)
		release(n);
}

/* ---- measuring ---- */

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t *order_of(int random, uint32_t count, uint64_t stride)
{
	uint64_t *items = malloc(count * sizeof(*items));
	uint32_t state = 1;
	if (items == NULL)
		abort();
	for (uint32_t i = 0; i < count; i++)
		items[i] = i * stride;
	for (uint32_t i = count - 1; random && i > 0; i--) {
		uint64_t swap = items[i];
		uint32_t j = (state = state * 1664525u + 1013904223u) % (i + 1);
		items[i] = items[j];
		items[j] = swap;
	}
	return items;
}

/* Touches the memory that the entries will take: the kernel's allocator has its pages already. */
static void warm_heap(size_t count)
{
	size_t size = count * 80 + (1 << 20);
	char *heap;
#ifdef __GLIBC__
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
	heap = malloc(size);
	if (heap == NULL)
		abort();
	memset(heap, 1, size);
	free(heap);
}

int main(int argc, char **argv)
{
	uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0;
	uint64_t stride = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
	uint64_t *order;
	double begin, first, again, drop, last, range;
	if (count == 0 || stride == 0)
		return 1;
	order = order_of(strcmp(argv[1], "random") == 0, count, stride);
	warm_heap(count);
#define TIMED(result, statement)                   \
	begin = now();                             \
	for (uint32_t i = 0; i < count; i++)       \
		statement;                         \
	result = (now() - begin) / count
	TIMED(first, map(order[i]));
	TIMED(again, map(order[i]));
	TIMED(drop, unmap(order[i]));
	TIMED(last, unmap(order[i]));
	for (uint32_t i = 0; i < count; i++)
		map(order[i]);
	begin = now();
	for (uint64_t gfn = 0; gfn < count * stride; gfn++) {
		struct entry *n = find(BY_GFN, gfn);
		if (n != NULL)
			release(n);
	}
	range = (now() - begin) / count;
	printf("{\"map\":%.2f,\"map again\":%.2f,\"unmap\":%.2f,\"last unmap\":%.2f,\"release by range\":%.2f,\"bytes per entry\":80}\n",
	       first, again, drop, last, range);
	return 0;
}
