/*
 * push_stream.c - a segment that is as it should be is read, checked and compressed a frame at a
 * time.
 *
 * Nothing then needs the whole of it in memory, which a process that pushes one segment would have
 * to get from the system first: the cleaning of those pages costs more than reading the file into
 * them. Each byte is read once; what is hashed and compressed is what was checked.
 *
 * Whatever is out of the ordinary (a failure, records that contradict, an unfinished segment, an
 * unknown major, a record that goes on over more than a frame from the segment before) is not
 * judged here: what was begun is dropped, and the segment is read as a whole.
 */
#include "push_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"

#include <string.h>

#define PIECE (256u * 1024) /* read at a time: it is still in the cache when it is checked */

typedef struct stream {
    wa_push_job *job;
    wa_walreader *reader;
    uint8_t first_page[WA_WAL_PAGE];
    wa_lsn first_record; /* 0: none begins in what was fed */
    wa_tli last_tli;     /* of the last page that was fed */
    bool usual;
} stream;

static wa_status
add_record(void *arg, const wa_record *record, wa_error *err)
{
    stream *s = arg;
    (void)err;
    if (s->first_record == 0)
        s->first_record = record->lsn;
    wa_wal_facts_add(s->job->facts, record);
    return WA_OK;
}

/* Is it the segment that its name says, and does it go on where the one before ends? */
static wa_status
check_beginning(stream *s, uint8_t *data, size_t len, wa_error *err)
{
    wa_push_job *job = s->job;
    job->data = data;
    wa_status status = wa_push_check_first_page(job, err);
    if (status == WA_OK)
        status = wa_push_check_boundary(job, len, &s->usual, err);
    job->data = NULL;
    memcpy(s->first_page, data, sizeof s->first_page);
    return status;
}

static wa_status
check_piece(stream *s, uint64_t at, uint8_t *data, size_t len, wa_error *err)
{
    wa_wal_end end = WA_WAL_MORE;
    if (at == 0)
        WA_TRY(check_beginning(s, data, len, err));
    if (!s->usual)
        return WA_OK;
    WA_TRY(wa_walreader_feed(s->reader, data, len, add_record, s, &end, err));
    s->last_tli = wa_get_u32le(data + len - WA_WAL_PAGE + 4);
    s->usual = end == WA_WAL_MORE;
    return WA_OK;
}

static wa_status
read_pieces(stream *s, int fd, wa_error *err)
{
    wa_push_job *job = s->job;
    wa_container_writer *to = wa_wal_writer_container(job->writer);
    for (uint64_t at = 0; at < job->size && s->usual;) {
        void *room = NULL;
        size_t len = 0;
        WA_TRY(wa_cancel_check(job->options->cancel, err));
        WA_TRY(wa_container_space(to, &room, &len, err));
        len = len < job->size - at ? len : (size_t)(job->size - at);
        len = at > 0 && len > PIECE ? PIECE : len;
        WA_TRY(wa_pread_all(fd, room, len, (off_t)at, job->path, err));
        WA_TRY(check_piece(s, at, room, len, err));
        if (s->usual)
            WA_TRY(wa_container_advance(to, len, err));
        at += len;
    }
    return WA_OK;
}

static wa_status
read_and_check(stream *s, wa_error *err)
{
    static const wa_branch unknown;
    wa_push_job *job = s->job;
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_TRY(wa_push_open(job, &fd, err));
    WA_TRY(wa_push_begin(job, &unknown, &job->writer, err));
    wa_walreader_start(s->reader, job->start, 0);
    WA_TRY(read_pieces(s, fd, err));
    if (!s->usual)
        return WA_OK;
    job->check = wa_segment_check_fed(s->reader, s->first_page, s->first_record);
    s->usual = job->check.complete && job->check.parsed && s->last_tli <= job->tli;
    return WA_OK;
}

bool
wa_push_stream(wa_push_job *job)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(job->size);
    stream s = {.job = job, .reader = reader, .usual = true};
    job->facts = wa_malloc(sizeof *job->facts);
    wa_wal_facts_init(job->facts);
    if (read_and_check(&s, &ignored) == WA_OK && s.usual)
        return true;
    wa_wal_writer_free(job->writer);
    job->writer = NULL;
    wa_freep(&job->facts);
    job->check = (wa_segment_check){0};
    return false;
}
