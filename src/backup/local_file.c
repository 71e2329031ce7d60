/*
 * local_file.c - files of the data directory, each read to the size that it had when it was
 * opened: cut into pieces, read by `jobs` workers, and put in order into the packer and the
 * manifest.
 *
 * A ring of slots, one for each piece: [oldest, oldest + in_flight) are at the readers or read. A
 * file's descriptor lives from its first piece to its last, so the ring's size bounds the open
 * files too. Pieces of small files have memory of their own, so that several files are read at a
 * time; those of large files are read to where they will be compressed, a frame at a time. Of very
 * large ones whole frames are left to the compressors (local_frame.c).
 */
#include "local_internal.h"

#include "walagent/base/file.h"
#include "walagent/pg/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (1024u * 1024)      /* a multiple of WA_LOCAL_ALIGN */
#define DIRECT_PIECE (PIECE / 2)  /* of a large file: eight readers share a frame */
#define READ_AT_ONCE (64u * 1024) /* smaller than what handing over costs */
#define LOOK_EVERY_MS 1000

typedef struct file {
    wa_local_source source;
    char *path; /* in the backup */
    uint64_t size;
    mode_t mode;
    int64_t mtime;
    wa_local_cache cache;
} file;

typedef struct slot {
    wa_job job; /* first: the job is the slot */
    wa_local_pipe *pipe;
    file *file;
    uint64_t offset;
    size_t len;
    uint8_t *data; /* own, or room in the frame */
    uint8_t *own;
    bool at_once; /* read by the caller: there is no job */
    wa_status status;
    wa_error error;
} slot;

struct wa_local_pipe {
    wa_local *l;
    wa_pool *readers;
    slot *slots;
    size_t slot_count, oldest, in_flight;
    wa_local_frames *frames;
};

static void
file_free(file *f)
{
    if (f == NULL)
        return;
    wa_closep(&f->source.fd);
    wa_freep(&f->path);
    wa_local_cache_done(&f->cache);
    wa_freep(&f);
}
WA_DEFINE_CLEANUP(file, file_free)

wa_status
wa_local_pipe_new(wa_local *l, wa_local_pipe **ret, wa_error *err)
{
    size_t jobs = l->options->jobs;
    wa_pool *readers = NULL;
    WA_TRY(wa_pool_new("read", jobs, jobs + 1, &readers, err));
    wa_local_pipe *pipe = wa_calloc(1, sizeof *pipe);
    pipe->l = l;
    pipe->readers = readers;
    pipe->slot_count = jobs + 2;
    pipe->slots = wa_calloc(pipe->slot_count, sizeof *pipe->slots);
    pipe->frames = wa_local_frames_new(l);
    *ret = pipe;
    return WA_OK;
}

static bool
is_last_piece(const slot *s)
{
    return s->offset + s->len == s->file->size;
}

void
wa_local_pipe_free(wa_local_pipe *pipe)
{
    if (pipe == NULL)
        return;
    wa_pool_free(pipe->readers); /* runs what was submitted */
    for (; pipe->in_flight > 0; pipe->in_flight--) {
        slot *s = &pipe->slots[pipe->oldest];
        if (is_last_piece(s) || pipe->in_flight == 1)
            file_free(s->file);
        pipe->oldest = (pipe->oldest + 1) % pipe->slot_count;
    }
    wa_local_frames_free(pipe->frames);
    for (size_t i = 0; i < pipe->slot_count; i++)
        wa_freep(&pipe->slots[i].own);
    wa_freep(&pipe->slots);
    wa_freep(&pipe);
}

static void
read_slot(wa_job *job, size_t worker)
{
    (void)worker;
    slot *s = (slot *)job;
    const file *f = s->file;
    s->status =
        wa_local_read(&f->source, s->offset, s->data, s->len, &s->pipe->l->damage, &s->error);
    wa_local_cache_forget(&f->cache, s->offset, s->offset + s->len);
}

static bool
is_large(const file *f)
{
    return f->size > PIECE;
}

static wa_status
begin_file(wa_local *l, const file *f, wa_error *err)
{
    wa_tar_entry entry = {
        .path = f->path, .type = WA_TAR_FILE, .size = f->size, .mode = f->mode, .mtime = f->mtime};
    return wa_packer_begin_file(l->packer, &entry, f->path, err);
}

static wa_status
put_piece(wa_local *l, const slot *s, wa_error *err)
{
    const file *f = s->file;
    if (!is_large(f)) /* it is one piece */
        WA_TRY(begin_file(l, f, err));
    else
        WA_TRY(wa_local_frames_finish(l->pipe->frames, err));
    if (s->len > 0)
        WA_TRY(wa_packer_write(l->packer, s->data, s->len, err));
    if (!is_last_piece(s))
        return WA_OK;
    WA_TRY(wa_packer_end_file(l->packer, err));
    return wa_local_manifest_add(l->manifest, f->path, f->size, f->mtime,
                                 wa_packer_last_crc(l->packer), err);
}

/* The oldest piece goes into the packer. */
static wa_status
collect_oldest(wa_local_pipe *pipe, wa_error *err)
{
    slot *s = &pipe->slots[pipe->oldest];
    if (!s->at_once)
        wa_pool_wait(pipe->readers, &s->job);
    if (s->status != WA_OK) {
        *err = s->error;
        return s->status;
    }
    WA_TRY(put_piece(pipe->l, s, err));
    if (is_last_piece(s)) {
        if (is_large(s->file)) /* what lay across pieces */
            wa_local_cache_forget(&s->file->cache, 0, s->file->size);
        file_free(s->file);
    }
    pipe->oldest = (pipe->oldest + 1) % pipe->slot_count;
    pipe->in_flight--;
    return WA_OK;
}

wa_status
wa_local_pipe_drain(wa_local_pipe *pipe, wa_error *err)
{
    while (pipe->in_flight > 0)
        WA_TRY(collect_oldest(pipe, err));
    return WA_OK;
}

/* Waits as the rate limit asks, and now and then looks whether the backup's session lives. */
static wa_status
pace(wa_local *l, size_t len, wa_error *err)
{
    wa_mono now = wa_mono_now();
    if (now >= l->looked + LOOK_EVERY_MS) {
        WA_TRY(wa_backup_local_alive(l->conn, err));
        l->looked = now;
    }
    return wa_pace_wait(&l->reading, len, l->options->cancel, err);
}

/* room: where to read it to; NULL: memory of its own. When that went well the file is the slots'.
 */
static wa_status
give_piece(wa_local_pipe *pipe, file *f, uint64_t offset, size_t len, void *room, wa_error *err)
{
    WA_TRY(pace(pipe->l, len, err));
    wa_local_cache_look(&f->cache, offset + len);
    if (pipe->in_flight == pipe->slot_count)
        WA_TRY(collect_oldest(pipe, err));
    slot *s = &pipe->slots[(pipe->oldest + pipe->in_flight) % pipe->slot_count];
    uint8_t *own = s->own != NULL || room != NULL ? s->own : wa_malloc(PIECE);
    *s = (slot){.job = {.run = read_slot},
                .pipe = pipe,
                .file = f,
                .offset = offset,
                .len = len,
                .data = room != NULL ? room : own,
                .own = own,
                .at_once = len <= READ_AT_ONCE};
    pipe->in_flight++;
    if (s->at_once)
        read_slot(&s->job, 0);
    else
        wa_pool_submit(pipe->readers, &s->job);
    return WA_OK;
}

static size_t
piece_of(const file *f, uint64_t offset, size_t most)
{
    return f->size - offset < most ? (size_t)(f->size - offset) : most;
}

/* Takes the file, whatever happens. One piece: whatever comes into the packer before it is
 * collected stands before or behind the whole file. */
static wa_status
give_small(wa_local_pipe *pipe, file *f, wa_error *err)
{
    WA_CLEANUP(file_freep) file *owned = f;
    WA_TRY(give_piece(pipe, f, 0, (size_t)f->size, NULL, err));
    owned = NULL;
    return WA_OK;
}

/* Pieces that fill the frame, and one across its end: pages are read whole. */
static wa_status
give_frame(wa_local_pipe *pipe, file **owned, uint64_t *offset, wa_error *err)
{
    file *f = *owned;
    void *room = NULL;
    size_t left = 0;
    WA_TRY(wa_packer_room(pipe->l->packer, &room, &left, err));
    for (uint8_t *at = room; at != NULL && *offset < f->size;) {
        size_t len = piece_of(f, *offset, DIRECT_PIECE);
        if (len > left)
            len = left - left % WA_LOCAL_ALIGN;
        bool across = len == 0;
        if (across)
            len = piece_of(f, *offset, WA_LOCAL_ALIGN);
        WA_TRY(give_piece(pipe, f, *offset, len, across ? NULL : at, err));
        *owned = NULL;
        *offset += len;
        left -= across ? 0 : len;
        at = across ? NULL : at + len;
    }
    bool more = *offset < f->size;
    WA_TRY(wa_local_pipe_drain(pipe, err)); /* with the last piece the file goes */
    if (more)
        *owned = f; /* no slot has it */
    return WA_OK;
}

static wa_status
give_whole_frames(wa_local_pipe *pipe, file *f, uint64_t *offset, wa_error *err)
{
    while (wa_local_frames_can_take(pipe->frames, f->size - *offset)) {
        WA_TRY(pace(pipe->l, 0, err));
        wa_local_cache_look(&f->cache, *offset);
        WA_TRY(wa_local_frames_take(pipe->frames, &f->source, &f->cache, offset, err));
    }
    return WA_OK;
}

/* The same, with nothing else at the readers. */
static wa_status
give_large(wa_local_pipe *pipe, file *f, wa_error *err)
{
    WA_CLEANUP(file_freep) file *owned = f;
    uint64_t offset = 0;
    WA_TRY(wa_local_pipe_drain(pipe, err));
    WA_TRY(begin_file(pipe->l, f, err));
    wa_status status = give_whole_frames(pipe, f, &offset, err);
    while (status == WA_OK && owned != NULL)
        status = give_frame(pipe, &owned, &offset, err);
    if (status != WA_OK)
        wa_local_frames_abandon(pipe->frames);
    return status;
}

static void
find_pages(const wa_local *l, const char *dir, const char *path, wa_local_source *s)
{
    wa_relfile relation;
    const char *name = strrchr(path, '/');
    if (!l->check_pages || name == NULL || !wa_datadir_has_relations(dir) ||
        !wa_relfile_parse(name + 1, &relation))
        return;
    s->page_size = l->control.block_size;
    s->first_page = relation.segment * l->control.relation_segment_blocks;
    s->since = l->info->start_lsn;
}

wa_status
wa_local_copy_file(wa_local *l, const char *dir, const char *path, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *full = wa_path_join(l->options->data_dir, path);
    WA_CLEANUP(wa_closep) int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return WA_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        wa_status status = wa_error_errno(err, errno, "could not open file \"%s\": %m", full);
        return status == WA_DENIED ? wa_error_hint(err, "Run walagent as the user of the server.")
                                   : status;
    }
    if (!S_ISREG(st.st_mode)) /* something else since the look at the directory */
        return WA_OK;
    file *f = wa_calloc(1, sizeof *f);
    f->path = wa_strdup(path);
    f->size = (uint64_t)st.st_size;
    f->mode = st.st_mode & 07777;
    f->mtime = st.st_mtime;
    f->source = (wa_local_source){.path = f->path, .fd = fd};
    fd = -1;
    find_pages(l, dir, path, &f->source);
    wa_local_cache_begin(&f->cache, f->source.fd, f->size);
    return is_large(f) ? give_large(l->pipe, f, err) : give_small(l->pipe, f, err);
}

wa_status
wa_local_add_memory(wa_local *l, const char *path, mode_t mode, int64_t mtime, const void *data,
                    size_t len, wa_error *err)
{
    wa_tar_entry entry = {
        .path = path, .type = WA_TAR_FILE, .size = len, .mode = mode & 07777, .mtime = mtime};
    WA_TRY(wa_local_pipe_drain(l->pipe, err));
    WA_TRY(wa_packer_begin_file(l->packer, &entry, path, err));
    if (len > 0)
        WA_TRY(wa_packer_write(l->packer, data, len, err));
    WA_TRY(wa_packer_end_file(l->packer, err));
    return wa_local_manifest_add(l->manifest, path, len, mtime, wa_packer_last_crc(l->packer), err);
}

wa_status
wa_local_damage(const wa_local *l, wa_error *err)
{
    const wa_damage *d = &l->damage;
    if (d->count == 0)
        return WA_OK;
    wa_error_set(err, WA_CORRUPT, "the checksum of %zu page%s is wrong: %s%s", d->count,
                 d->count == 1 ? "" : "s", wa_buf_str(&d->places),
                 d->count > 5 ? " and others" : "");
    return wa_error_hint(err, "No backup was made. The server's data files are damaged: find out "
                              "what is hit (pg_class names the relation of a file) and restore it "
                              "from an older backup.");
}
