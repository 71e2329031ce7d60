/*
 * push_check.c - is a segment file what its name says, and do its records agree with each other?
 *
 * Read of the first page (PostgreSQL's XLogLongPageHeaderData, little-endian):
 *   0   u16   magic            8   u64   page address
 *   2   u16   info             24  u64   system identifier
 *   4   u32   timeline         32  u32   segment size
 */
#include "push_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_CONTINUES 1u
#define PAGE_LONG 2u
#define READINGS 3                   /* of a file that contradicts itself */
#define CROSSING_BYTES (64u * 1024u) /* read of the segment before, for the record that crosses */

void
wa_push_job_done(wa_push_job *job)
{
    wa_freep(&job->wal_dir);
    wa_freep(&job->data);
    wa_freep(&job->facts);
}

static wa_status
read_into(const wa_push_job *job, bool may_be_short, uint8_t *out, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(job->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        wa_error_errno(err, errno, "could not read WAL file \"%s\": %m", job->path);
        if (err->status == WA_NOT_FOUND)
            err->status = WA_FAILED; /* "not found" is said of the archive only */
        return err->status;
    }
    if ((uint64_t)st.st_size > job->size || (!may_be_short && (uint64_t)st.st_size != job->size)) {
        wa_error_set(err, WA_CONFLICT, "WAL file \"%s\" has %lld bytes instead of %llu", job->path,
                     (long long)st.st_size, (unsigned long long)job->size);
        return wa_error_hint(err, "It was truncated or comes from a cluster with another "
                                  "wal_segment_size; it is not archived.");
    }
    WA_TRY(wa_pread_all(fd, out, (size_t)st.st_size, 0, job->path, err));
    memset(out + st.st_size, 0, job->size - (size_t)st.st_size);
    return WA_OK;
}

static wa_status
not_this_segment(const wa_push_job *job, const char *what, wa_error *err)
{
    wa_error_set(err, WA_CONFLICT, "WAL file \"%s\" is not segment \"%s\" of this cluster: %s",
                 job->path, job->name, what);
    return wa_error_hint(err, "It is not archived. If the server was created anew or upgraded, run "
                              "\"walagent init\" to accept its new identity.");
}

/* Identity errors always stop; everything else about a page is the walk's business. */
static wa_status
check_first_page(const wa_push_job *job, wa_error *err)
{
    const uint8_t *page = job->data;
    uint16_t magic = wa_get_u16le(page), info = wa_get_u16le(page + 2);
    uint64_t address = wa_get_u64le(page + 8), system = wa_get_u64le(page + 24);
    uint64_t mine = wa_repo_cluster(job->repo)->system_identifier;
    uint32_t segment_size = wa_get_u32le(page + 32);
    char lsn[WA_LSN_TEXT];
    WA_CLEANUP(wa_freep) char *what = NULL;
    if (magic == 0)
        what = wa_strdup("it holds no WAL");
    else if (wa_wal_magic_major(magic) == 0)
        return WA_OK; /* a newer major: its page layout is not known */
    else if ((info & PAGE_LONG) != 0 && system != mine)
        what = wa_format("its system identifier is %llu, the archive's is %llu",
                         (unsigned long long)system, (unsigned long long)mine);
    else if ((info & PAGE_LONG) != 0 && segment_size != job->size)
        what = wa_format("its segment size is %u, the archive's is %llu", segment_size,
                         (unsigned long long)job->size);
    else if (address != job->start)
        what = wa_format("its first page is the one of %s", wa_lsn_format(address, lsn));
    else if (wa_get_u32le(page + 4) > job->tli)
        what = wa_format("its first page is of timeline %u", wa_get_u32le(page + 4));
    return what == NULL ? WA_OK : not_this_segment(job, what, err);
}

wa_status
wa_push_read(wa_push_job *job, bool may_be_short, wa_error *err)
{
    job->data = wa_malloc_large(job->size);
    WA_TRY(read_into(job, may_be_short, job->data, err));
    return check_first_page(job, err);
}

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
static wa_status
check_boundary(wa_push_job *job, wa_error *err)
{
    if (wa_wal_magic_major(wa_get_u16le(job->data)) == 0)
        return WA_OK;
    crossing c = {.start = job->start, .facts = job->facts};
    wa_status status = WA_OK;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(job->size);
    wa_walreader_expect_system(r, wa_repo_cluster(job->repo)->system_identifier);
    if (join_before(job, r, &c))
        status = wa_walreader_feed(r, job->data, job->size, take_crossing, &c, NULL, err);
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
    wa_wal_facts_init(job->facts);
    WA_TRY(check_boundary(job, err));
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
        uint8_t *again = wa_malloc_large(job->size);
        wa_error reread = WA_ERROR_INIT;
        if (read_into(job, false, again, &reread) != WA_OK) {
            free(again);
            *err = reread;
            return err->status;
        }
        bool same = memcmp(again, job->data, job->size) == 0;
        free(job->data);
        job->data = again;
        if (same)
            break;
        wa_error_clear(err);
        WA_TRY(check_first_page(job, err));
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
