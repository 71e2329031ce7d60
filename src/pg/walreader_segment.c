/*
 * pg/walreader_segment.c - is a whole segment complete, and where does its valid WAL end?
 *
 * A segment that was filled up with zeroes in the middle of a record is incomplete, not corrupt:
 * nothing but zeroes follows the place where the reader stopped. Zeroes that are followed by a page
 * which belongs there are a hole, and that is corrupt.
 */
#include "walreader_internal.h"

#include "walagent/base/bytes.h"

/* Is a page behind `from` where it says it is? Then WAL goes on there. */
static wa_lsn
find_later_page(const wa_walreader *r, const uint8_t *data, size_t len, wa_lsn start, wa_lsn from)
{
    size_t at = (size_t)((from - start + WA_WAL_PAGE - 1) / WA_WAL_PAGE) * WA_WAL_PAGE;

    for (; at + WA_WAL_PAGE <= len; at += WA_WAL_PAGE)
        if (wa_get_u16le(data + at) == r->magic && wa_get_u64le(data + at + 8) == start + at)
            return start + at;
    return 0;
}

/* Where the zeroes at the end begin. */
static size_t
used_bytes(const uint8_t *data, size_t len)
{
    while (len >= WA_WAL_PAGE && wal_is_zero(data + len - WA_WAL_PAGE, WA_WAL_PAGE))
        len -= WA_WAL_PAGE;
    while (len > 0 && data[len - 1] == 0)
        len--;
    return len;
}

typedef struct collector {
    wa_record_fn fn;
    void *arg;
    wa_lsn first;
} collector;

static wa_status
collect(void *arg, const wa_record *record, wa_error *err)
{
    collector *c = arg;

    if (c->first == 0)
        c->first = record->lsn;
    return c->fn != NULL ? c->fn(c->arg, record, err) : WA_OK;
}

static wa_segment_check
describe(const wa_walreader *r, wa_lsn first, const uint8_t *page, wa_lsn start, bool whole)
{
    bool open = whole && wa_walreader_in_record(r);
    wa_lsn last = open ? r->record_lsn : r->last_record;
    bool parsed = r->state != WAL_UNPARSED;

    return (wa_segment_check){.complete = whole && (open || r->end == start + r->segment_size ||
                                                    r->state == WAL_SKIPPING),
                              .parsed = parsed,
                              .valid_end = whole ? start + r->segment_size : r->end,
                              .first_record = first != 0 ? first : last,
                              .last_record = last,
                              .system_identifier = r->system,
                              .page_tli = wa_get_u32le(page + 4),
                              .page_addr = wa_get_u64le(page + 8),
                              .magic = wa_get_u16le(page)};
}

wa_status
wa_segment_check_all(const void *data, size_t len, wa_lsn start, wa_record_fn fn, void *arg,
                     wa_segment_check *ret, wa_error *err)
{
    collector c = {.fn = fn, .arg = arg};
    wa_wal_end end = WA_WAL_MORE;
    char at[WA_LSN_TEXT], later[WA_LSN_TEXT];

    if (!wa_segment_size_valid(len))
        return wa_error_set(err, WA_CORRUPT, "segment has %zu bytes, which is no segment size",
                            len);
    if (start % len != 0)
        return wa_error_set(err, WA_CORRUPT, "%s is not where a segment of %zu bytes begins",
                            wa_lsn_format(start, at), len);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(len);
    wa_walreader_start(r, start, 0);
    wa_status status = wa_walreader_feed(r, data, len, collect, &c, &end, err);

    if (status == WA_CORRUPT && start + used_bytes(data, len) < r->fail_at) {
        wa_error_clear(err); /* cut inside its last record */
        end = WA_WAL_END;
    } else if (status != WA_OK) {
        return status;
    } else if (end == WA_WAL_END && r->magic != 0) {
        wa_lsn page = find_later_page(r, data, len, start, r->fail_at);
        if (page != 0)
            return wa_error_set(err, WA_CORRUPT, "WAL ends at %s, but goes on at %s",
                                wa_lsn_format(r->end, at), wa_lsn_format(page, later));
    }
    *ret = describe(r, c.first, data, start, end == WA_WAL_MORE);
    return WA_OK;
}

wa_segment_check
wa_segment_check_fed(const wa_walreader *r, const void *page, wa_lsn first_record)
{
    return describe(r, first_record, page, wa_walreader_fed(r) - r->segment_size, true);
}
