/*
 * push_check.c - do the records of a segment file agree with each other, and with the one before?
 */
#include "push_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PAGE_CONTINUES 1u
#define READINGS 3                   /* of a file that contradicts itself */
#define CROSSING_BYTES (64u * 1024u) /* read of the segment before, for the record that crosses */

typedef struct crossing {
    wa_lsn start;
    wa_wal_facts *facts;
    bool found;
} crossing;

/* Up to the first record that begins in the segment: the ones before it belong to their own. */
static wa_status
take_crossing(void *arg, const wa_record *record, wa_error *err)
{
    crossing *c = arg;
    if (record->lsn >= c->start)
        return wa_error_set(err, WA_CANCELLED, "enough");
    if (record->end > c->start) {
        wa_wal_facts_add(c->facts, record);
        c->found = true;
    }
    return WA_OK;
}

/* Feed the last `len` bytes of the segment before, as it is in pg_wal. False: it isn't there, it
 * contradicts, or no record begins in them. */
static bool
feed_before(const wa_push_job *job, wa_tli tli, uint64_t len, wa_walreader *r, crossing *c)
{
    wa_error ignored = WA_ERROR_INIT;
    char name[WA_SEGMENT_NAME];
    wa_segment_name(tli, job->segno - 1, job->size, name);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(job->wal_dir, name);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    WA_CLEANUP(wa_freep) void *end = wa_malloc(len);
    wa_wal_end state = WA_WAL_MORE;
    if (fd < 0 || wa_pread_all(fd, end, len, (off_t)(job->size - len), path, &ignored) != WA_OK)
        return false;
    wa_walreader_start(r, job->start - len, 0);
    return wa_walreader_feed(r, end, len, take_crossing, c, &state, &ignored) == WA_OK &&
           state == WA_WAL_MORE && (wa_walreader_in_record(r) || wa_walreader_last_record(r) != 0);
}

/* The reader behind the segment before, when that is there and right. */
static bool
join_before(const wa_push_job *job, wa_walreader *r, crossing *c)
{
    wa_tli page_tli = wa_get_u32le(job->data + 4);
    if (job->segno == 0)
        return false;
    return feed_before(job, job->tli, CROSSING_BYTES, r, c) ||
           feed_before(job, job->tli, job->size, r, c) ||
           (page_tli != job->tli && (feed_before(job, page_tli, CROSSING_BYTES, r, c) ||
                                     feed_before(job, page_tli, job->size, r, c)));
}

/*
 * Does the segment go on where the one before ends, if that is in pg_wal? The record that begins
 * there and ends here belongs to this one's facts; where its beginning is gone, the facts say that
 * they are not everything.
 */
wa_status
wa_push_check_boundary(wa_push_job *job, size_t len, bool *ret_decided, wa_error *err)
{
    *ret_decided = true;
    if (wa_wal_magic_major(wa_get_u16le(job->data)) == 0)
        return WA_OK;
    crossing c = {.start = job->start, .facts = job->facts};
    wa_status status = WA_OK;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(job->size);
    wa_walreader_expect_system(r, wa_repo_cluster(job->repo)->system_identifier);
    if (join_before(job, r, &c)) {
        status = wa_walreader_feed(r, job->data, len, take_crossing, &c, NULL, err);
        *ret_decided = len == job->size || status != WA_OK;
    }
    if (!c.found && (wa_get_u16le(job->data + 2) & PAGE_CONTINUES) != 0)
        job->facts->overflow = true;
    if (status == WA_CANCELLED) {
        wa_error_clear(err);
        return WA_OK;
    }
    return status;
}

/* Timelines never decrease from page to page, so the last page's is the highest. */
static wa_status
check_last_timeline(const wa_push_job *job, wa_error *err)
{
    wa_lsn end = job->check.valid_end;
    if (!job->check.parsed || end <= job->start)
        return WA_OK;
    wa_lsn page = (end - 1) - (end - 1) % WA_WAL_PAGE;
    uint32_t tli = wa_get_u32le(job->data + (page - job->start) + 4);
    char lsn[WA_LSN_TEXT];
    if (tli > job->tli)
        return wa_error_set(err, WA_CORRUPT, "page at %s: timeline %u in a segment of timeline %u",
                            wa_lsn_format(page, lsn), tli, job->tli);
    return WA_OK;
}

static wa_status
add_record(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static wa_status
walk(wa_push_job *job, wa_error *err)
{
    bool decided = false;
    wa_wal_facts_init(job->facts);
    WA_TRY(wa_push_check_boundary(job, job->size, &decided, err));
    WA_TRY(wa_segment_check_all(job->data, job->size, job->start, add_record, job->facts,
                                &job->check, err));
    WA_TRY(check_last_timeline(job, err));
    /* A switch ends the segment: if it isn't complete, something stands in its zeroes. It would
     * never be finished, so it must not pass for unfinished. */
    char lsn[WA_LSN_TEXT];
    if (job->check.parsed && !job->check.complete && job->facts->switched)
        return wa_error_set(err, WA_CORRUPT, "behind the switch at %s not everything is zero",
                            wa_lsn_format(job->check.valid_end, lsn));
    return WA_OK;
}

wa_status
wa_push_check(wa_push_job *job, wa_error *err)
{
    job->facts = wa_malloc(sizeof *job->facts);
    wa_status status = walk(job, err);
    for (int reading = 1; status == WA_CORRUPT; reading++) {
        if (reading == READINGS)
            return wa_error_wrap(err, "WAL file \"%s\" reads differently each time", job->path);
        wa_error reread = WA_ERROR_INIT;
        bool same = false;
        if (wa_push_read_again(job, &same, &reread) != WA_OK) {
            *err = reread;
            return err->status;
        }
        if (same)
            break;
        wa_error_clear(err);
        status = walk(job, err);
    }
    if (status != WA_CORRUPT)
        return status;
    if (job->options->stop_on_damage) {
        wa_error_wrap(err, "WAL file \"%s\"", job->path);
        return wa_error_hint(err, "It was read twice with the same result. It is not archived, "
                                  "since [archive] on_damage is \"stop\".");
    }
    /* The server's history, damaged as it is: refusing it for ever would fill pg_wal. */
    job->damaged = true;
    memcpy(job->damage, err->message, sizeof job->damage);
    job->facts->overflow = true;
    job->check = (wa_segment_check){.complete = true, .parsed = true};
    wa_error_clear(err);
    return WA_OK;
}
