/*
 * local_cache.c - the page cache is the server's: of what nobody had read before us nothing stays
 * in it.
 */
#include "local_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUN (1024u * 1024)     /* that is remembered as cached or not */
#define LOOK_LEAST (64u << 10) /* a smaller file costs more to look at than it takes room */
#define LOOK_MAX (16ull << 30) /* a larger file than PostgreSQL's own: not worth the memory */
#define LOOK_STEP (16u << 20)  /* a multiple of RUN; of a whole file it takes too long at once */
#define LOOK_AHEAD (64u << 20) /* more than the kernel reads ahead of us */

void
wa_local_cache_begin(wa_local_cache *c, int fd, uint64_t size)
{
    *c = (wa_local_cache){.fd = fd, .size = size};
    if (size <= LOOK_LEAST)
        return;
    if (size <= LOOK_MAX)
        c->was_cached = wa_calloc((size_t)(size / RUN + 1), sizeof *c->was_cached);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

void
wa_local_cache_done(wa_local_cache *c)
{
    wa_freep(&c->was_cached);
}

/* Which runs had pages in the page cache before we came; those of which it can't be found out. */
static void
look_at(const wa_local_cache *c, uint64_t offset, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (len + page - 1) / page;
    unsigned char resident[LOOK_STEP / 4096];
    void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, c->fd, (off_t)offset);
    if (map == MAP_FAILED || mincore(map, len, resident) != 0)
        memset(resident, 1, pages);
    for (size_t i = 0; i < pages; i++)
        if ((resident[i] & 1) != 0)
            c->was_cached[(offset + i * page) / RUN] = true;
    if (map != MAP_FAILED)
        munmap(map, len);
}

void
wa_local_cache_look(wa_local_cache *c, uint64_t end)
{
    while (c->was_cached != NULL && c->looked < c->size && c->looked < end + LOOK_AHEAD) {
        uint64_t left = c->size - c->looked;
        size_t len = left < LOOK_STEP ? (size_t)left : LOOK_STEP;
        look_at(c, c->looked, len);
        c->looked += len;
    }
}

/* The end of what is like the byte at `offset`. */
static uint64_t
end_of_like(const wa_local_cache *c, uint64_t offset, uint64_t end)
{
    bool cached = c->was_cached[offset / RUN];
    uint64_t next = offset;
    while (next < end && c->was_cached[next / RUN] == cached)
        next = (next / RUN + 1) * RUN;
    return next < end ? next : end;
}

static void
advise_uncached(const wa_local_cache *c, uint64_t offset, uint64_t end, int advice)
{
    for (uint64_t next; c->was_cached != NULL && offset < end; offset = next) {
        next = end_of_like(c, offset, end);
        if (!c->was_cached[offset / RUN])
            (void)posix_fadvise(c->fd, (off_t)offset, (off_t)(next - offset), advice);
    }
}

void
wa_local_cache_fetch(const wa_local_cache *c, uint64_t offset, uint64_t end)
{
    advise_uncached(c, offset, end, POSIX_FADV_WILLNEED);
}

void
wa_local_cache_forget(const wa_local_cache *c, uint64_t offset, uint64_t end)
{
    advise_uncached(c, offset, end, POSIX_FADV_DONTNEED);
}
