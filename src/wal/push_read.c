/*
 * push_read.c - read a segment file; is it what its name says?
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

#define PAGE_LONG 2u
#define HASH_BYTES (256u * 1024) /* read at a time: what is hashed is still in the cache */
#define SETTLED_MS 200           /* many ticks of the clock that files' times are taken from */

void
wa_push_drop_data(wa_push_job *job)
{
    if (job->options->room == NULL)
        free(job->data);
    job->data = NULL;
}

void
wa_push_job_done(wa_push_job *job)
{
    wa_freep(&job->wal_dir);
    wa_wal_writer_free(job->writer); /* before what it reads */
    wa_push_drop_data(job);
    wa_freep(&job->facts);
}

/* ---- the room ---- */

void
wa_push_room_done(wa_push_room *room)
{
    wa_compressor_free(room->compressor);
    wa_freep(&room->segment);
    *room = (wa_push_room){.compressor = NULL};
}

static void *
memory_of_segment(const wa_push_job *job)
{
    wa_push_room *room = job->options->room;
    if (room == NULL)
        return wa_malloc_large(job->size);
    if (room->size != job->size) {
        wa_freep(&room->segment);
        room->segment = wa_malloc_large(job->size);
        room->size = job->size;
    }
    return room->segment;
}

static wa_compressor *
compressor_of_room(wa_push_room *room)
{
    if (room->compressor == NULL)
        room->compressor = wa_compressor_new();
    return room->compressor;
}

/* ---- the file and its state ---- */

wa_push_source
wa_push_source_of(const struct stat *st, struct timespec now)
{
    int64_t rest_ms = ((int64_t)now.tv_sec - st->st_ctim.tv_sec) * 1000 +
                      (now.tv_nsec - st->st_ctim.tv_nsec) / 1000000;
    /* Whole seconds are the times of a file system that knows no less. */
    return (wa_push_source){.settled = rest_ms >= SETTLED_MS && st->st_ctim.tv_nsec != 0,
                            .device = st->st_dev,
                            .inode = st->st_ino,
                            .size = st->st_size,
                            .modified = st->st_mtim,
                            .changed = st->st_ctim};
}

static bool
same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool
wa_push_source_is(const wa_push_source *source, const char *path)
{
    struct stat st;
    return source->settled && stat(path, &st) == 0 && st.st_dev == source->device &&
           st.st_ino == source->inode && st.st_size == source->size &&
           same_time(st.st_mtim, source->modified) && same_time(st.st_ctim, source->changed);
}

/* ---- reading ---- */

static wa_status
open_file(const wa_push_job *job, bool may_be_short, int *ret_fd, struct stat *ret, wa_error *err)
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
    *ret = st;
    *ret_fd = fd;
    fd = -1;
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
wa_status
wa_push_check_first_page(const wa_push_job *job, wa_error *err)
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
wa_push_begin(const wa_push_job *job, const wa_branch *branch, wa_wal_writer **ret, wa_error *err)
{
    const wa_push_options *o = job->options;
    WA_TRY(wa_wal_writer_begin(job->repo, branch, job->segno, o->pool, ret, err));
    if (o->pool == NULL && o->room != NULL)
        wa_container_use(wa_wal_writer_container(*ret), compressor_of_room(o->room));
    wa_wal_writer_draft(*ret);
    return WA_OK;
}

/* The first `have` bytes are there; only whole frames are lent. The branch is known later. */
static wa_status
compress_early(wa_push_job *job, size_t have, wa_error *err)
{
    static const wa_branch unknown;
    if (job->writer == NULL)
        WA_TRY(wa_push_begin(job, &unknown, &job->writer, err));
    wa_container_writer *to = wa_wal_writer_container(job->writer);
    size_t done = wa_container_raw_size(to);
    have -= have % WA_FRAME_WAL;
    return have > done ? wa_container_write_lent(to, job->data + done, have - done, err) : WA_OK;
}

/* What the archive has no room for it may have already: that is seen later. */
static wa_status
compress_while_room(wa_push_job *job, size_t have, wa_error *err)
{
    wa_status status = job->full.status == WA_OK ? compress_early(job, have, err) : WA_OK;
    if (status != WA_NO_SPACE)
        return status;
    job->full = *err;
    wa_error_clear(err);
    wa_wal_writer_free(job->writer);
    job->writer = NULL;
    return WA_OK;
}

/* And notes its state. */
static wa_status
open_and_note(wa_push_job *job, bool may_be_short, int *ret_fd, size_t *ret_size, wa_error *err)
{
    struct stat st;
    struct timespec now;
    WA_TRY(open_file(job, may_be_short, ret_fd, &st, err));
    clock_gettime(CLOCK_REALTIME, &now);
    job->source = wa_push_source_of(&st, now);
    *ret_size = (size_t)st.st_size;
    return WA_OK;
}

wa_status
wa_push_open(wa_push_job *job, int *ret_fd, wa_error *err)
{
    size_t size = 0;
    return open_and_note(job, false, ret_fd, &size, err);
}

wa_status
wa_push_read(wa_push_job *job, bool may_be_short, bool early, wa_error *err)
{
    size_t size = 0;
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_TRY(open_and_note(job, may_be_short, &fd, &size, err));
    job->data = memory_of_segment(job);
    for (size_t at = 0; at < size;) {
        size_t n = size - at < WA_FRAME_WAL ? size - at : WA_FRAME_WAL;
        WA_TRY(wa_pread_all(fd, job->data + at, n, (off_t)at, job->path, err));
        at += n;
        if (early && job->options->pool != NULL)
            WA_TRY(compress_while_room(job, at, err));
    }
    memset(job->data + size, 0, job->size - size);
    return wa_push_check_first_page(job, err);
}

wa_status
wa_push_hash(const wa_push_job *job, char ret[static WA_XXH_HEX], wa_error *err)
{
    struct stat st;
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_TRY(open_file(job, false, &fd, &st, err));
    WA_CLEANUP(wa_freep) void *piece = wa_malloc(HASH_BYTES);
    WA_CLEANUP(wa_xxh_freep) wa_xxh *hash = wa_xxh_new();
    for (uint64_t at = 0; at < job->size; at += HASH_BYTES) {
        WA_TRY(wa_cancel_check(job->options->cancel, err));
        WA_TRY(wa_pread_all(fd, piece, HASH_BYTES, (off_t)at, job->path, err));
        wa_xxh_update(hash, piece, HASH_BYTES);
    }
    wa_xxh_hex(hash, ret);
    return WA_OK;
}

wa_status
wa_push_read_again(wa_push_job *job, bool *ret_same, wa_error *err)
{
    struct stat st;
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_TRY(open_file(job, false, &fd, &st, err));
    WA_CLEANUP(wa_freep) uint8_t *again = wa_malloc_large(job->size);
    WA_TRY(wa_pread_all(fd, again, job->size, 0, job->path, err));
    *ret_same = memcmp(again, job->data, job->size) == 0;
    if (*ret_same)
        return WA_OK;
    job->source = (wa_push_source){.settled = false};
    wa_wal_writer_free(job->writer);
    job->writer = NULL;
    memcpy(job->data, again, job->size);
    return wa_push_check_first_page(job, err);
}
