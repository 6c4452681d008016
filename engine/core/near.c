#include "engine/core/near.h"
#include "engine/core/check.h"
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#define PAGE_BYTES 65536u
#define READY_PAGES 64u     /* are made writable at a time */
#define HUGE_FROM_PAGE 512u /* a small heap does not take memory by large pages */
#define RESERVED_BYTES_MIN (64u << 20)

#define FINE_BYTES 512u /* up to there each multiple of the granule is a size */
#define FINE_CLASSES (FINE_BYTES / NEAR_GRANULE_BYTES)
#define COARSE_BYTES 256u
static_assert(FINE_CLASSES + (NEAR_BYTES_MAX - FINE_BYTES) / COARSE_BYTES + 1 == NEAR_CLASSES,
              "one of each size, and none of 0 bytes");

struct near_page {
    struct near_heap *heap;
    uint32_t next, previous; /* with room, of this size; page numbers */
    uint32_t free;           /* the first that was given back; 0: none */
    uint16_t bytes;          /* of an object; 0: the page is empty */
    uint16_t first;          /* where objects begin */
    uint16_t capacity, used, live;
    uint64_t taken[]; /* a bit for each */
};

static unsigned class_of(size_t bytes)
{
    check(bytes > 0 && bytes <= NEAR_BYTES_MAX);
    return (unsigned)(bytes <= FINE_BYTES
                          ? (bytes + NEAR_GRANULE_BYTES - 1) / NEAR_GRANULE_BYTES
                          : FINE_CLASSES + (bytes - FINE_BYTES + COARSE_BYTES - 1) / COARSE_BYTES);
}

static unsigned class_bytes(unsigned class)
{
    return class <= FINE_CLASSES ? class * NEAR_GRANULE_BYTES
                                 : FINE_BYTES + (class - FINE_CLASSES) * COARSE_BYTES;
}

static struct near_page *page_at(const struct near_heap *heap, uint32_t number)
{
    return (struct near_page *)(void *)(heap->base + (size_t)number * PAGE_BYTES);
}

static struct near_page *page_of(const void *object)
{
    return (struct near_page *)((uintptr_t)object & ~(uintptr_t)(PAGE_BYTES - 1));
}

static uint32_t number_of(const struct near_heap *heap, const struct near_page *page)
{
    return (uint32_t)(((const char *)page - heap->base) / PAGE_BYTES);
}

static void *object_at(struct near_page *page, uint32_t index)
{
    return (char *)page + page->first + (size_t)index * page->bytes;
}

/* ---- Addresses ---- */

/* So many bytes at a multiple of as many: they cross no span. NULL: there are not so many. */
static char *reserve(size_t bytes)
{
    char *all =
        mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) {
        return NULL;
    }
    char *base = all + (bytes - (uintptr_t)all % bytes) % bytes;
    if (base > all) {
        munmap(all, (size_t)(base - all));
    }
    munmap(base + bytes, (size_t)(all + 2 * bytes - (base + bytes)));
    return base;
}

/* Where addresses are short (a limit of the process) the heap is smaller. */
int near_open(struct near_heap *heap)
{
    *heap = (struct near_heap){0};
    for (size_t bytes = NEAR_SPAN_BYTES; heap->base == NULL; bytes /= 4) {
        if (bytes < RESERVED_BYTES_MIN) {
            return -ENOMEM;
        }
        heap->base = reserve(bytes);
        heap->page_max = (uint32_t)(bytes / PAGE_BYTES);
    }
    /* The first pages are the table of those that are empty. A link of 0 leads to none of the others. */
    heap->page_count = (uint32_t)((heap->page_max * sizeof(uint32_t) - 1) / PAGE_BYTES + 1);
    heap->ready_count = heap->page_count;
    if (mprotect(heap->base, (size_t)heap->page_count * PAGE_BYTES, PROT_READ | PROT_WRITE) != 0) {
        near_close(heap);
        return -ENOMEM;
    }
    return 0;
}

void near_close(struct near_heap *heap)
{
    if (heap->base != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(heap->base, (size_t)heap->page_count * PAGE_BYTES);
        munmap(heap->base, (size_t)heap->page_max * PAGE_BYTES);
    }
    *heap = (struct near_heap){0};
}

/* ---- Pages ---- */

static uint32_t *free_next(const struct near_heap *heap, uint32_t number)
{
    return &((uint32_t *)(void *)heap->base)[number];
}

static void page_link(struct near_heap *heap, struct near_page *page)
{
    uint32_t *first = &heap->partial[class_of(page->bytes)], number = number_of(heap, page);
    page->previous = 0;
    page->next = *first;
    if (*first != 0) {
        page_at(heap, *first)->previous = number;
    }
    *first = number;
}

static void page_unlink(struct near_heap *heap, struct near_page *page)
{
    if (page->next != 0) {
        page_at(heap, page->next)->previous = page->previous;
    }
    if (page->previous != 0) {
        page_at(heap, page->previous)->next = page->next;
    } else {
        heap->partial[class_of(page->bytes)] = page->next;
    }
}

/* 0: memory is short. */
static uint32_t page_take(struct near_heap *heap)
{
    uint32_t number = heap->free_first;
    if (number != 0) {
        heap->free_first = *free_next(heap, number);
        return number;
    }
    if (heap->page_count == heap->ready_count) {
        uint32_t more = heap->page_max - heap->ready_count;
        more = more < READY_PAGES ? more : READY_PAGES;
        char *at = heap->base + (size_t)heap->ready_count * PAGE_BYTES;
        size_t bytes = (size_t)more * PAGE_BYTES;
        if (more == 0 || mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0) {
            return 0;
        }
        if (heap->ready_count >= HUGE_FROM_PAGE) {
            (void)madvise(at, bytes, MADV_HUGEPAGE); /* what it refuses is only slower */
        }
        heap->ready_count += more;
    }
    return heap->page_count++;
}

static struct near_page *page_make(struct near_heap *heap, unsigned class)
{
    uint32_t number = page_take(heap), bytes = class_bytes(class);
    if (number == 0) {
        return NULL;
    }
    struct near_page *page = page_at(heap, number);
    uint32_t capacity = (PAGE_BYTES - sizeof(*page) - sizeof(uint64_t)) * 8 / (bytes * 8 + 1);
    uint32_t words = (capacity + 63) / 64;
    *page = (struct near_page){
        .heap = heap,
        .bytes = (uint16_t)bytes,
        .first = (uint16_t)((sizeof(*page) + words * sizeof(uint64_t) + 7) & ~(size_t)7),
        .capacity = (uint16_t)capacity};
    check(page->first + capacity * bytes <= PAGE_BYTES);
    memset(page->taken, 0, words * sizeof(uint64_t));
    ASAN_POISON_MEMORY_REGION((char *)page + page->first, PAGE_BYTES - page->first);
    page_link(heap, page);
    return page;
}

/* Nothing is in it any more. */
static void page_give(struct near_heap *heap, struct near_page *page)
{
    uint32_t number = number_of(heap, page);
    page_unlink(heap, page);
    page->bytes = 0;
    ASAN_UNPOISON_MEMORY_REGION(page, PAGE_BYTES);
    (void)madvise(page, PAGE_BYTES, MADV_DONTNEED);
    *free_next(heap, number) = heap->free_first;
    heap->free_first = number;
}

/* ---- Objects ---- */

void *near_take(struct near_heap *heap, size_t bytes)
{
    unsigned class = class_of(bytes);
    uint32_t number = heap->partial[class];
    struct near_page *page = number != 0 ? page_at(heap, number) : page_make(heap, class);
    if (page == NULL) {
        return NULL;
    }
    void *object = near_at(page, page->free);
    uint32_t index = page->used;
    if (object != NULL) {
        index = (uint32_t)((char *)object - (char *)page - page->first) / page->bytes;
        ASAN_UNPOISON_MEMORY_REGION(object, page->bytes);
        memcpy(&page->free, object, sizeof(page->free));
    } else {
        object = object_at(page, page->used++);
        ASAN_UNPOISON_MEMORY_REGION(object, page->bytes);
    }
    page->taken[index / 64] |= 1ull << index % 64;
    page->live++;
    if (page->live == page->capacity) {
        page_unlink(heap, page);
    }
    heap->memory_bytes += page->bytes;
    return object;
}

void near_give(struct near_heap *heap, void *object)
{
    if (object == NULL) {
        return;
    }
    struct near_page *page = page_of(object);
    uint32_t index = (uint32_t)((char *)object - (char *)page - page->first) / page->bytes;
    uint64_t bit = 1ull << index % 64;
    check((page->taken[index / 64] & bit) != 0);
    page->taken[index / 64] &= ~bit;
    heap->memory_bytes -= page->bytes;
    memcpy(object, &page->free, sizeof(page->free));
    page->free = near_link(object);
    ASAN_POISON_MEMORY_REGION(object, page->bytes);
    if (page->live == page->capacity) {
        page_link(heap, page);
    }
    page->live--;
    /* The last one with room stays, so that one object that comes and goes does not take a page each time. */
    if (page->live == 0 && (page->next != 0 || page->previous != 0)) {
        page_give(heap, page);
    }
}

struct near_heap *near_heap_of(const void *object)
{
    return page_of(object)->heap;
}

size_t near_size(const void *object)
{
    return object != NULL ? page_of(object)->bytes : 0;
}

void *near_each(const struct near_heap *heap, size_t bytes, uint64_t *cursor)
{
    uint32_t wanted = class_bytes(class_of(bytes));
    uint32_t number = (uint32_t)(*cursor / PAGE_BYTES), index = *cursor % PAGE_BYTES;
    uint32_t table = (uint32_t)((heap->page_max * sizeof(uint32_t) - 1) / PAGE_BYTES + 1);
    if (number < table) {
        number = table;
        index = 0;
    }
    for (; number < heap->page_count; number++, index = 0) {
        struct near_page *page = page_at(heap, number);
        for (; page->bytes == wanted && index < page->used; index++) {
            if ((page->taken[index / 64] >> index % 64 & 1) != 0) {
                *cursor = (uint64_t)number * PAGE_BYTES + index + 1;
                return object_at(page, index);
            }
        }
    }
    *cursor = (uint64_t)number * PAGE_BYTES;
    return NULL;
}
