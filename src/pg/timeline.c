/*
 * pg/timeline.c - timeline history files.
 *
 *   line      parent TLI (decimal), white space, switch point "X/X", white space, reason
 *   comment   white space, '#', anything
 *
 * PostgreSQL reads a line with sscanf("%u\t%X/%X"), so any white space separates, and the reason
 * may be missing.
 */
#include "walagent/pg/timeline.h"

#include "walagent/base/str.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HISTORY_MAX ((size_t)1 << 20)

/* What is left of one line. */
typedef struct cursor {
    const char *at, *end;
} cursor;

static bool
skip_space(cursor *c)
{
    const char *before = c->at;

    while (c->at < c->end && isspace((unsigned char)*c->at))
        c->at++;
    return c->at > before;
}

/* An unsigned 32-bit number in base 10 or 16; false when there is none or it is too large. */
static bool
take_number(cursor *c, unsigned base, uint32_t *ret)
{
    const char *before = c->at;
    uint64_t value = 0;

    for (; c->at < c->end; c->at++) {
        int ch = toupper((unsigned char)*c->at);
        unsigned digit = ch >= '0' && ch <= '9'   ? (unsigned)(ch - '0')
                         : ch >= 'A' && ch <= 'F' ? (unsigned)(ch - 'A' + 10)
                                                  : 16;
        if (digit >= base)
            break;
        value = value * base + digit;
        if (value > UINT32_MAX)
            return false;
    }
    *ret = (uint32_t)value;
    return c->at > before;
}

static bool
parse_entry(cursor c, wa_history_entry *ret)
{
    uint32_t tli, high, low;

    if (!take_number(&c, 10, &tli) || !skip_space(&c) || !take_number(&c, 16, &high))
        return false;
    if (c.at == c.end || *c.at != '/')
        return false;
    c.at++;
    if (!take_number(&c, 16, &low) || (c.at < c.end && !skip_space(&c)))
        return false;
    *ret = (wa_history_entry){.tli = tli, .end = (uint64_t)high << 32 | low};
    return true;
}

static wa_status
add_entry(wa_history *h, wa_history_entry entry, unsigned line, wa_error *err)
{
    const wa_history_entry *last = h->count > 0 ? &h->entries[h->count - 1] : NULL;

    if (entry.tli == 0 || (last != NULL && entry.tli <= last->tli))
        return wa_error_set(err, WA_CORRUPT,
                            "timeline history line %u: timeline %" PRIu32 " is not in order", line,
                            entry.tli);
    if (entry.tli >= h->tli)
        return wa_error_set(err, WA_CORRUPT,
                            "timeline history line %u: timeline %" PRIu32
                            " cannot be an ancestor of timeline %" PRIu32,
                            line, entry.tli, h->tli);
    if (last != NULL && entry.end < last->end)
        return wa_error_set(
            err, WA_CORRUPT,
            "timeline history line %u: switch point is before the one of its parent", line);
    /* Doubling at the powers of two. */
    if ((h->count & (h->count + 1)) == 0 || h->entries == NULL)
        h->entries = wa_reallocarray(h->entries, (h->count + 1) * 2, sizeof *h->entries);
    h->entries[h->count++] = entry;
    return WA_OK;
}

wa_status
wa_history_parse(wa_tli tli, const char *text, size_t len, wa_history **ret, wa_error *err)
{
    if (len > HISTORY_MAX)
        return wa_error_set(err, WA_CORRUPT, "timeline history of %zu bytes is too long", len);

    WA_CLEANUP(wa_history_freep) wa_history *h = wa_calloc(1, sizeof *h);
    h->tli = tli;

    unsigned line = 0;
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        cursor c = {text + at, newline != NULL ? newline : text + len};
        at = (size_t)(c.end - text) + 1;
        line++;

        (void)skip_space(&c);
        if (c.at == c.end || *c.at == '#')
            continue;
        wa_history_entry entry;
        if (!parse_entry(c, &entry))
            return wa_error_set(err, WA_CORRUPT,
                                "timeline history line %u: expected timeline and switch point",
                                line);
        WA_TRY(add_entry(h, entry, line, err));
    }
    if (tli > 1 && h->count == 0)
        return wa_error_set(err, WA_CORRUPT, "history of timeline %" PRIu32 " names no parent",
                            tli);
    *ret = WA_TAKE(h);
    return WA_OK;
}

void
wa_history_free(wa_history *h)
{
    if (h == NULL)
        return;
    wa_freep(&h->entries);
    wa_freep(&h);
}

bool
wa_history_has(const wa_history *h, wa_tli tli)
{
    if (tli == h->tli)
        return true;
    for (size_t i = 0; i < h->count; i++)
        if (h->entries[i].tli == tli)
            return true;
    return false;
}

wa_lsn
wa_history_end_of(const wa_history *h, wa_tli tli)
{
    WA_ASSERT(wa_history_has(h, tli));
    for (size_t i = 0; i < h->count; i++)
        if (h->entries[i].tli == tli)
            return h->entries[i].end;
    return 0;
}

wa_lsn
wa_history_begin(const wa_history *h)
{
    return h->count > 0 ? h->entries[h->count - 1].end : 0;
}

wa_tli
wa_history_parent(const wa_history *h)
{
    return h->count > 0 ? h->entries[h->count - 1].tli : 0;
}

wa_tli
wa_history_tli_at(const wa_history *h, wa_lsn lsn)
{
    for (size_t i = 0; i < h->count; i++)
        if (lsn < h->entries[i].end)
            return h->entries[i].tli;
    return h->tli;
}

char *
wa_history_name(wa_tli tli, char out[static WA_SEGMENT_NAME])
{
    snprintf(out, WA_SEGMENT_NAME, "%08" PRIX32 ".history", tli);
    return out;
}

bool
wa_history_name_parse(const char *name, wa_tli *ret)
{
    uint64_t tli = 0;

    if (wa_wal_file_kind_of(name) != WA_WAL_HISTORY || !wa_parse_hex(name, 8, &tli) || tli == 0)
        return false;
    *ret = (wa_tli)tli;
    return true;
}
