/*
 * The yardstick of the pin and mapping benchmarks: a red-black tree in C with the costs of the kernel's. Nodes are
 * intrusive, 64 bytes each (malloc(56) takes a 64-byte block), allocated one by one, keyed by byte address. The tree is
 * written after Cormen et al., chapter 13 (nil sentinel, parent pointers); it shares no code with any kernel.
 *
 *   rbtree pins  ORDER COUNT STRIDE        ORDER: sequential | random
 *   rbtree maps  COUNT
 *
 * prints one JSON object: nanoseconds per operation, by name. The orders and sizes are those of the JavaScript side:
 * both draw from the same xorshift generator.
 */
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { PAGE_SHIFT = 12, LOOKUPS = 1 << 20 };

struct node {
	struct node *left, *right;
	uintptr_t parent_and_color; /* bit 0: red */
	uint64_t first;             /* byte address: the key */
	uint64_t last;              /* last byte, of mappings */
	uint64_t pfn;
	uint32_t references;
	uint32_t unused;
};
_Static_assert(sizeof(struct node) == 56, "a node and malloc's header are 64 bytes");

static struct node nil_node;
static struct node *const nil = &nil_node;
static struct node *root;

static struct node *parent_of(const struct node *n) { return (struct node *)(n->parent_and_color & ~(uintptr_t)1); }
static int is_red(const struct node *n) { return (int)(n->parent_and_color & 1); }
static void set_parent(struct node *n, struct node *parent)
{
	n->parent_and_color = (uintptr_t)parent | (n->parent_and_color & 1);
}
static void set_red(struct node *n, int red) { n->parent_and_color = (n->parent_and_color & ~(uintptr_t)1) | (uintptr_t)red; }

static void replace(struct node *n, struct node *by)
{
	struct node *parent = parent_of(n);
	if (parent == nil)
		root = by;
	else if (n == parent->left)
		parent->left = by;
	else
		parent->right = by;
	set_parent(by, parent);
}

static void rotate_left(struct node *n)
{
	struct node *child = n->right;
	n->right = child->left;
	if (child->left != nil)
		set_parent(child->left, n);
	replace(n, child);
	child->left = n;
	set_parent(n, child);
}

static void rotate_right(struct node *n)
{
	struct node *child = n->left;
	n->left = child->right;
	if (child->right != nil)
		set_parent(child->right, n);
	replace(n, child);
	child->right = n;
	set_parent(n, child);
}

static void fix_insert(struct node *n)
{
	struct node *parent;
	while (is_red(parent = parent_of(n))) {
		struct node *grand = parent_of(parent);
		int left = parent == grand->left;
		struct node *uncle = left ? grand->right : grand->left;
		set_red(grand, 1);
		if (is_red(uncle)) {
			set_red(parent, 0);
			set_red(uncle, 0);
			n = grand;
			continue;
		}
		if (n == (left ? parent->right : parent->left)) {
			left ? rotate_left(parent) : rotate_right(parent);
			set_red(n, 0);
			n = parent;
		} else {
			set_red(parent, 0);
		}
		left ? rotate_right(grand) : rotate_left(grand);
	}
	set_red(root, 0);
}

/* Links a node that is not in the tree below `parent`, where a search for its key ended. */
static void link_node(struct node *n, struct node *parent)
{
	n->left = n->right = nil;
	n->parent_and_color = (uintptr_t)parent | 1;
	if (parent == nil)
		root = n;
	else if (n->first < parent->first)
		parent->left = n;
	else
		parent->right = n;
	fix_insert(n);
}

static void fix_erase(struct node *n)
{
	while (n != root && !is_red(n)) {
		struct node *parent = parent_of(n);
		int left = n == parent->left;
		struct node *sibling = left ? parent->right : parent->left;
		struct node *far;
		if (is_red(sibling)) {
			set_red(sibling, 0);
			set_red(parent, 1);
			left ? rotate_left(parent) : rotate_right(parent);
			sibling = left ? parent->right : parent->left;
		}
		if (!is_red(sibling->left) && !is_red(sibling->right)) {
			set_red(sibling, 1);
			n = parent;
			continue;
		}
		far = left ? sibling->right : sibling->left;
		if (!is_red(far)) {
			set_red(left ? sibling->left : sibling->right, 0);
			set_red(sibling, 1);
			left ? rotate_right(sibling) : rotate_left(sibling);
			sibling = left ? parent->right : parent->left;
		}
		set_red(sibling, is_red(parent));
		set_red(parent, 0);
		set_red(left ? sibling->right : sibling->left, 0);
		left ? rotate_left(parent) : rotate_right(parent);
		n = root;
	}
	set_red(n, 0);
}

static void erase(struct node *n)
{
	int lost_red = is_red(n);
	struct node *hole;
	if (n->left == nil || n->right == nil) {
		hole = n->left == nil ? n->right : n->left;
		replace(n, hole);
	} else {
		struct node *next = n->right;
		while (next->left != nil)
			next = next->left;
		lost_red = is_red(next);
		hole = next->right;
		if (parent_of(next) == n) {
			set_parent(hole, next);
		} else {
			replace(next, hole);
			next->right = n->right;
			set_parent(next->right, next);
		}
		replace(n, next);
		next->left = n->left;
		set_parent(next->left, next);
		set_red(next, is_red(n));
	}
	if (!lost_red)
		fix_erase(hole);
}

static struct node *find_exact(uint64_t address)
{
	struct node *n = root;
	while (n != nil) {
		if (address < n->first)
			n = n->left;
		else if (address > n->first)
			n = n->right;
		else
			return n;
	}
	return NULL;
}

/* The mapping that holds `address`. */
static struct node *find_holder(uint64_t address)
{
	struct node *n = root;
	while (n != nil) {
		if (address < n->first)
			n = n->left;
		else if (address > n->last)
			n = n->right;
		else
			return n;
	}
	return NULL;
}

/*
 * Adds [first, last] unless something that overlaps it is there: then that is returned, else NULL. One descent, which
 * is kinder to the tree than the kernel is to itself: it searches first and descends again to link.
 */
static struct node *find_or_insert(uint64_t first, uint64_t last, uint64_t pfn)
{
	struct node *parent = nil;
	struct node *n = root;
	while (n != nil) {
		parent = n;
		if (last < n->first)
			n = n->left;
		else if (first > n->last)
			n = n->right;
		else
			return n;
	}
	n = malloc(sizeof(*n));
	if (n == NULL)
		abort();
	n->first = first;
	n->last = last;
	n->pfn = pfn;
	n->references = 1;
	link_node(n, parent);
	return NULL;
}

/* ---- measuring ---- */

static uint32_t random_state;
static uint32_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

static void shuffle(uint64_t *items, uint32_t count, uint32_t seed)
{
	random_state = seed;
	for (uint32_t i = count - 1; i > 0; i--) {
		uint32_t j = next_random() % (i + 1);
		uint64_t swap = items[i];
		items[i] = items[j];
		items[j] = swap;
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *array_of(size_t count, size_t size)
{
	void *array = malloc(count * size);
	if (array == NULL)
		abort();
	return array;
}

/*
 * Touches the memory that `count` nodes will take, so that no node pays for a page fault: the kernel's allocator has its
 * pages already. The JavaScript side pays for its faults.
 */
static void warm_heap(size_t count)
{
	size_t size = count * 64 + (1 << 20);
	char *heap;
#ifdef __GLIBC__
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
	heap = array_of(size, 1);
	memset(heap, 1, size);
	free(heap);
}

static uint64_t sum; /* keeps the compiler from dropping lookups */

static void bench_pins(int random, uint32_t count, uint64_t stride)
{
	uint64_t *order = array_of(count, sizeof(*order)), *other = array_of(count, sizeof(*other));
	double begin, first_pin, re_pin, unpin, last_unpin;
	warm_heap(count);
	for (uint32_t i = 0; i < count; i++)
		order[i] = other[i] = (uint64_t)i * stride;
	if (random) {
		shuffle(order, count, 1);
		shuffle(other, count, 2);
	}
	begin = now();
	for (uint32_t i = 0; i < count; i++) {
		uint64_t address = order[i] << PAGE_SHIFT;
		struct node *n = find_or_insert(address, address, order[i] + 7);
		if (n != NULL)
			n->references++;
	}
	first_pin = now() - begin;
	begin = now();
	for (uint32_t i = 0; i < count; i++) {
		struct node *n = find_exact(other[i] << PAGE_SHIFT);
		n->references++;
		sum += n->pfn;
	}
	re_pin = now() - begin;
	begin = now();
	for (uint32_t i = 0; i < count; i++)
		sum += --find_exact(other[i] << PAGE_SHIFT)->references;
	unpin = now() - begin;
	begin = now();
	for (uint32_t i = 0; i < count; i++) {
		struct node *n = find_exact(other[i] << PAGE_SHIFT);
		if (--n->references == 0) {
			sum += n->pfn;
			erase(n);
			free(n);
		}
	}
	last_unpin = now() - begin;
	printf("{\"first pin\":%.2f,\"re-pin\":%.2f,\"unpin\":%.2f,\"last unpin\":%.2f}\n", first_pin / count,
	       re_pin / count, unpin / count, last_unpin / count);
}

/* Mappings of 1 to 16 pages with gaps of 0 to 15 pages. */
static void bench_maps(uint32_t count)
{
	uint64_t *first = array_of(count, 8), *last = array_of(count, 8), *order = array_of(count, 8);
	uint64_t *other = array_of(count, 8), *wanted = array_of(LOOKUPS, 8);
	uint32_t repeat = count >= 4096 ? 1 : 65536 / count;
	double begin, insert = 0, find = 0, find_same, find_erase = 0, erase_known = 0;
	uint64_t at = 256;
	warm_heap(count);
	random_state = 3;
	for (uint32_t i = 0; i < count; i++) {
		first[i] = at;
		last[i] = at + (next_random() & 15);
		at = last[i] + 1 + (next_random() & 15);
		order[i] = other[i] = i;
	}
	shuffle(order, count, 4);
	shuffle(other, count, 5);
	random_state = 6;
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint32_t m = next_random() % count;
		wanted[i] = first[m] + next_random() % (uint32_t)(last[m] - first[m] + 1);
	}
	for (uint32_t round = 0; round < 2 * repeat; round++) {
		begin = now();
		for (uint32_t i = 0; i < count; i++) {
			uint64_t m = order[i];
			if (find_or_insert(first[m] << PAGE_SHIFT, ((last[m] + 1) << PAGE_SHIFT) - 1, m) != NULL)
				abort();
		}
		insert += now() - begin;
		if (round == 0) {
			begin = now();
			for (uint32_t i = 0; i < LOOKUPS; i++)
				sum += find_holder(wanted[i] << PAGE_SHIFT)->pfn;
			find = now() - begin;
			begin = now();
			for (uint32_t i = 0; i < LOOKUPS; i++)
				sum += find_holder((first[0] << PAGE_SHIFT) + (i & 4095))->pfn;
			find_same = now() - begin;
		}
		if (round % 2 == 0) {
			begin = now();
			for (uint32_t i = 0; i < count; i++) {
				struct node *n = find_holder(first[other[i]] << PAGE_SHIFT);
				erase(n);
				free(n);
			}
			find_erase += now() - begin;
		} else {
			struct node **known = array_of(count, sizeof(*known));
			for (uint32_t i = 0; i < count; i++)
				known[i] = find_holder(first[other[i]] << PAGE_SHIFT);
			begin = now();
			for (uint32_t i = 0; i < count; i++) {
				erase(known[i]);
				free(known[i]);
			}
			erase_known += now() - begin;
			free(known);
		}
	}
	printf("{\"insert\":%.2f,\"find\":%.2f,\"find same\":%.2f,\"find and erase\":%.2f,\"erase\":%.2f}\n",
	       insert / count / (2 * repeat), find / LOOKUPS, find_same / LOOKUPS, find_erase / count / repeat,
	       erase_known / count / repeat);
}

int main(int argc, char **argv)
{
	nil->left = nil->right = nil;
	nil->parent_and_color = (uintptr_t)nil;
	root = nil;
	if (argc == 5 && strcmp(argv[1], "pins") == 0)
		bench_pins(strcmp(argv[2], "random") == 0, (uint32_t)atoi(argv[3]), (uint64_t)atoll(argv[4]));
	else if (argc == 3 && strcmp(argv[1], "maps") == 0)
		bench_maps((uint32_t)atoi(argv[2]));
	else {
		fprintf(stderr, "usage: rbtree pins sequential|random COUNT STRIDE | rbtree maps COUNT\n");
		return 2;
	}
	if (root != nil) {
		fprintf(stderr, "rbtree: the tree is not empty at the end\n");
		return 1;
	}
	return sum == 42 ? 3 : 0;
}
