/*
 * local_pages.c - a piece of a file, read while the server writes, and its pages checked.
 *
 * A page may come torn: it is read again, and what stays wrong and was not written since the
 * backup began is damage. What a file lost since it was opened is filled with zeros: replaying WAL
 * cuts it again.
 */
#include "local_internal.h"

#include "walagent/pg/page.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REREADS 5
#define REREAD_AFTER_NS 2000000
#define PLACES_NAMED 5

static void
note_damage(wa_damage *damage, const wa_local_source *s, uint64_t offset)
{
    WA_LOCK(&damage->mutex);
    if (damage->count++ < PLACES_NAMED)
        wa_buf_printf(&damage->places, "%sblock %u of \"%s\"", damage->count > 1 ? ", " : "",
                      (uint32_t)(offset / s->page_size), s->path);
}

static wa_status
read_fully(const wa_local_source *s, uint64_t offset, uint8_t *data, size_t len, size_t *ret,
           wa_error *err)
{
    size_t have = 0;
    while (have < len) {
        ssize_t got = pread(s->fd, data + have, len - have, (off_t)(offset + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wa_error_errno(err, errno, "could not read file \"%s\": %m", s->path);
        if (got == 0)
            break;
        have += (size_t)got;
    }
    memset(data + have, 0, len - have);
    *ret = have;
    return WA_OK;
}

static bool
is_damaged(const wa_local_source *s, uint64_t offset, const uint8_t *page)
{
    uint32_t block = s->first_page + (uint32_t)(offset / s->page_size);
    return wa_page_check(page, s->page_size, block, s->since) == WA_PAGE_DAMAGED;
}

/* A page that is wrong may have been read while the server wrote it. */
static wa_status
settle_page(const wa_local_source *s, uint64_t offset, uint8_t *page, wa_damage *damage,
            wa_error *err)
{
    for (int tries = 0; tries < REREADS; tries++) {
        static const struct timespec pause = {.tv_nsec = REREAD_AFTER_NS};
        size_t have = 0;
        (void)nanosleep(&pause, NULL);
        WA_TRY(read_fully(s, offset, page, s->page_size, &have, err));
        if (have < s->page_size || !is_damaged(s, offset, page))
            return WA_OK; /* cut meanwhile, or whole now */
    }
    note_damage(damage, s, offset);
    return WA_OK;
}

wa_status
wa_local_read(const wa_local_source *s, uint64_t offset, uint8_t *data, size_t len,
              wa_damage *damage, wa_error *err)
{
    size_t have = 0;
    WA_TRY(read_fully(s, offset, data, len, &have, err));
    if (s->page_size == 0)
        return WA_OK;
    for (size_t at = 0; at + s->page_size <= have; at += s->page_size)
        if (is_damaged(s, offset + at, data + at))
            WA_TRY(settle_page(s, offset + at, data + at, damage, err));
    return WA_OK;
}
