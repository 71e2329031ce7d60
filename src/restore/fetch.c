/*
 * restore/fetch.c - packs to files, by several workers.
 *
 * The list of files is streamed beside the manifest's (they have one order) and cut into units:
 * runs of neighbouring files of one pack. A worker takes a unit, fetches the frames that hold it in
 * large ranges, writes each file, and compares its CRC-32C with the manifest's. Memory is bounded
 * by the number of workers, the queue, and 16 bytes a file.
 *
 * pg_control is not written here: its checked bytes are handed to the caller, who writes it last.
 */
#include "restore_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNIT_BYTES (32u * 1024 * 1024)
#define UNIT_FILES 1024u
#define WRITE_BACK_FROM (128u * 1024)

typedef struct unit {
    wa_pack *pack;
    size_t count, capacity;
    wa_unit_file *files;
    uint64_t end; /* of its last file in the pack's raw bytes */
} unit;

typedef struct fetch {
    const wa_restore_options *o;
    const char *label;
    const wa_layout *layout;
    const wa_expected *expected;
    wa_chain *chain; /* NULL: a full backup */
    size_t next;     /* file of the manifest */
    wa_pack *pack;
    uint32_t pack_number;
    unit *open;
    wa_queue *queue;
    wa_mutex mutex; /* guards error and control */
    atomic_bool failed;
    wa_error error;
    wa_control_file *control;
} fetch;

static void
unit_free(unit *u)
{
    if (u == NULL)
        return;
    for (size_t i = 0; i < u->count; i++)
        wa_freep(&u->files[i].path);
    wa_freep(&u->files);
    wa_pack_release(u->pack);
    wa_freep(&u);
}

static void
fail(fetch *f, const wa_error *err)
{
    WA_LOCK(&f->mutex);
    if (!atomic_load(&f->failed))
        f->error = *err;
    atomic_store(&f->failed, true);
}

/* ---- workers ---- */

static wa_status
put_in_file(void *arg, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    return wa_writer_put(arg, position, data, len, err);
}

static wa_status
put_in_memory(void *arg, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    (void)err;
    memcpy((uint8_t *)arg + position, data, len);
    return WA_OK;
}

bool
wa_fetch_has_other_names(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1;
}

int
wa_fetch_open(const char *path, uint32_t file_mode)
{
    int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    /* Writable until it is finished, so that a restore that is interrupted can be repeated. */
    mode_t mode = ((mode_t)file_mode & 0777) | 0600;
    struct stat st;
    int fd = open(path, flags | O_EXCL, mode);
    if (fd >= 0 || errno != EEXIST)
        return fd;
    if (wa_fetch_has_other_names(path)) {
        if (unlink(path) != 0)
            return -1;
        return open(path, flags | O_EXCL, mode);
    }
    fd = open(path, flags | O_TRUNC, mode);
    if (fd >= 0 || errno != EACCES)
        return fd;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || unlink(path) != 0) {
        errno = EACCES;
        return -1;
    }
    return open(path, flags | O_EXCL, mode);
}

static wa_status
open_file(const char *path, uint32_t mode, mode_t dir_mode, int *ret, wa_error *err)
{
    int fd = wa_fetch_open(path, mode);
    if (fd < 0 && errno == ENOENT) { /* no line of its own for the directory */
        WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
        WA_TRY(wa_mkdir_p(dir, dir_mode, err));
        fd = wa_fetch_open(path, mode);
    }
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", path);
    *ret = fd;
    return WA_OK;
}

wa_status
wa_fetch_finish_file(int fd, const wa_unit_file *file, uint64_t cached, const char *path,
                     wa_error *err)
{
    struct timespec times[2] = {{.tv_sec = file->mtime}, {.tv_sec = file->mtime}};
    mode_t mode = (mode_t)file->mode & 0777;
    struct stat st;
    /* As it was created, unless it is read-only, or the umask or an earlier file had a say. */
    if ((fstat(fd, &st) != 0 || (st.st_mode & 07777) != mode) && fchmod(fd, mode) != 0)
        return wa_error_errno(err, errno, "could not set the mode of file \"%s\": %m", path);
    if (futimens(fd, times) != 0)
        return wa_error_errno(err, errno, "could not set the time of file \"%s\": %m", path);
    /* Write-back begins now, so that the sync at the end finds little left. Of small files it finds
     * many at once, which costs less than one request each. */
    if (cached >= WRITE_BACK_FROM)
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    return WA_OK;
}

static wa_status
write_file(const fetch *f, wa_frames *frames, const unit *u, const wa_unit_file *file,
           wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->layout->root, file->path);
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_TRY(open_file(path, file->mode, f->layout->dir_mode, &fd, err));
    WA_CLEANUP(wa_writer_close) wa_writer to;
    WA_TRY(wa_writer_open(&to, fd, path, file->size, err));
    WA_TRY(wa_frames_each(frames, u->pack, file, u->end, put_in_file, &to, err));
    WA_CRASH_POINT("restore-file-written");
    return wa_fetch_finish_file(fd, file, to.cached, path, err);
}

static wa_status
keep_control(fetch *f, wa_frames *frames, const unit *u, const wa_unit_file *file, wa_error *err)
{
    WA_LOCK(&f->mutex);
    wa_control_file *c = f->control;
    if (file->size != sizeof c->data)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of the backup has %llu bytes", file->path,
                            (unsigned long long)file->size);
    WA_TRY(wa_frames_each(frames, u->pack, file, u->end, put_in_memory, c->data, err));
    c->mode = file->mode & 0777;
    c->there = true;
    return WA_OK;
}

/* *ret_done: nothing is left to do for it. */
static wa_status
keep_what_is_right(const fetch *f, wa_frames *frames, const unit *u, const wa_unit_file *file,
                   const char *path, bool *ret_done, wa_error *err)
{
    wa_delta_job job = {
        .frames = frames, .pack = u->pack, .file = file, .path = path, .read_at = pread};
    wa_delta_found found;
    WA_TRY(wa_delta_keep(&job, &found, err));
    *ret_done = found.done;
    wa_restore_counts *counts = f->o->counts;
    if (!found.done || counts == NULL)
        return WA_OK;
    atomic_fetch_add(found.whole ? &counts->kept_bytes : &counts->kept_block_bytes, found.kept);
    atomic_fetch_add(&counts->kept_files, found.whole);
    return WA_OK;
}

static wa_status
restore_file(fetch *f, wa_frames *frames, wa_chain_readers *readers, const unit *u,
             const wa_unit_file *file, wa_error *err)
{
    if (strcmp(file->path, WA_CONTROL_PATH) == 0)
        return keep_control(f, frames, u, file, err);
    WA_CLEANUP(wa_freep) char *stands_for = wa_incremental_target(file->path);
    WA_CLEANUP(wa_freep)
    char *path = wa_path_join(f->layout->root, stands_for != NULL ? stands_for : file->path);
    if (f->chain != NULL && stands_for != NULL)
        return wa_chain_rebuild(f->chain, readers, u->pack, file, path, err);
    bool done = false;
    if (f->o->delta)
        WA_TRY(keep_what_is_right(f, frames, u, file, path, &done, err));
    return done ? WA_OK : write_file(f, frames, u, file, err);
}

static wa_status
restore_unit(fetch *f, wa_frames *frames, wa_chain_readers *readers, unit *u, wa_error *err)
{
    for (size_t i = 0; i < u->count; i++) {
        const wa_unit_file *file = &u->files[i];
        if (atomic_load(&f->failed))
            return WA_OK;
        WA_TRY(wa_cancel_check(f->o->cancel, err));
        WA_TRY(restore_file(f, frames, readers, u, file, err));
        if (f->o->progress != NULL) {
            atomic_fetch_add(&f->o->progress->done_bytes, file->size);
            atomic_fetch_add(&f->o->progress->done_files, 1);
        }
    }
    return WA_OK;
}

static void *
work(void *arg)
{
    fetch *f = arg;
    WA_CLEANUP(wa_frames_freep) wa_frames *frames = wa_frames_new();
    wa_chain_readers *readers = f->chain != NULL ? wa_chain_readers_new(f->chain) : NULL;
    void *item = NULL;
    while (wa_queue_pop(f->queue, &item)) {
        unit *u = item;
        wa_error err = WA_ERROR_INIT;
        if (!atomic_load(&f->failed) && restore_unit(f, frames, readers, u, &err) != WA_OK)
            fail(f, &err);
        unit_free(u);
    }
    wa_chain_readers_free(readers);
    return NULL;
}

/* ---- the producer ---- */

static void
send_unit(fetch *f)
{
    if (f->open == NULL)
        return;
    bool taken = wa_queue_push(f->queue, f->open);
    WA_ASSERT(taken);
    f->open = NULL;
}

static wa_status
make_directory(const fetch *f, const wa_backup_file *file, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->layout->root, file->path);
    if (mkdir(path, (mode_t)file->mode & 0777) != 0) {
        struct stat st;
        if (errno == ENOENT)
            WA_TRY(wa_mkdir_p(path, f->layout->dir_mode, err));
        else if (errno != EEXIST || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
            return wa_error_errno(err, errno, "could not create directory \"%s\": %m", path);
    }
    if (chmod(path, (mode_t)file->mode & 0777) != 0)
        return wa_error_errno(err, errno, "could not set the mode of \"%s\": %m", path);
    return WA_OK;
}

/* The next file of the manifest must be this one. */
static wa_status
expect(fetch *f, const wa_backup_file *file, uint32_t *ret_crc, wa_error *err)
{
    const wa_expected *e = f->expected;
    if (f->next >= e->count ||
        e->items[f->next].fingerprint != wa_path_fingerprint(file->path, file->size))
        return wa_error_set(err, WA_CORRUPT,
                            "the list of files of backup %s and its manifest disagree about file "
                            "%zu (\"%s\", %llu bytes)",
                            f->label, f->next + 1, file->path, (unsigned long long)file->size);
    *ret_crc = e->items[f->next++].crc;
    return WA_OK;
}

static wa_status
use_pack(fetch *f, uint32_t number, wa_error *err)
{
    if (f->pack != NULL && f->pack_number == number)
        return WA_OK;
    send_unit(f);
    wa_pack_release(f->pack);
    f->pack = NULL;
    WA_TRY(wa_pack_open(f->o, f->label, number, &f->pack, err));
    f->pack_number = number;
    return WA_OK;
}

static wa_status
add_file(fetch *f, const wa_backup_file *file, wa_error *err)
{
    uint32_t crc = 0;
    WA_TRY(expect(f, file, &crc, err));
    WA_TRY(use_pack(f, file->pack, err));
    if (file->offset > wa_container_size(wa_pack_container(f->pack)) ||
        file->size > wa_container_size(wa_pack_container(f->pack)) - file->offset)
        return wa_error_set(err, WA_CORRUPT, "file \"%s\" lies outside of \"%s\"", file->path,
                            wa_pack_key(f->pack));
    if (f->open != NULL && (f->open->count >= UNIT_FILES || file->offset < f->open->end ||
                            file->offset + file->size - f->open->files[0].offset > UNIT_BYTES))
        send_unit(f);
    if (f->open == NULL) {
        f->open = wa_calloc(1, sizeof *f->open);
        f->open->pack = wa_pack_share(f->pack);
    }
    unit *u = f->open;
    if (u->count == u->capacity) {
        u->capacity = u->capacity == 0 ? 16 : u->capacity * 2;
        u->files = wa_reallocarray(u->files, u->capacity, sizeof *u->files);
    }
    u->files[u->count++] = (wa_unit_file){.path = wa_strdup(file->path),
                                          .size = file->size,
                                          .offset = file->offset,
                                          .mode = file->mode,
                                          .crc = crc,
                                          .mtime = file->mtime};
    u->end = file->offset + file->size;
    return WA_OK;
}

static wa_status
take(void *arg, const wa_backup_file *file, wa_error *err)
{
    fetch *f = arg;
    if (atomic_load(&f->failed)) {
        WA_LOCK(&f->mutex);
        *err = f->error;
        return err->status;
    }
    WA_TRY(wa_cancel_check(f->o->cancel, err));
    switch (file->type) {
    case 'f':
        return add_file(f, file, err);
    case 'd':
        return make_directory(f, file, err);
    default: /* links are made from backup.json's tablespaces */
        if (wa_layout_place_of(f->layout, file->path)->oid == 0)
            return wa_error_set(err, WA_CORRUPT,
                                "backup %s has a link \"%s\" that is no tablespace's", f->label,
                                file->path);
        return WA_OK;
    }
}

static wa_status
produce(fetch *f, wa_error *err)
{
    WA_TRY(wa_backup_files(f->o->repo, f->label, take, f, err));
    send_unit(f);
    if (f->next != f->expected->count)
        return wa_error_set(err, WA_CORRUPT,
                            "the manifest of backup %s has %zu files, its list of files %zu",
                            f->label, f->expected->count, f->next);
    return WA_OK;
}

static wa_status
run_workers(fetch *f, wa_error *err)
{
    size_t jobs = f->o->jobs > 0 ? f->o->jobs : wa_processors(), started = 0;
    WA_CLEANUP(wa_freep) pthread_t *threads = wa_calloc(jobs, sizeof *threads);
    wa_status status = WA_OK;
    while (started < jobs && status == WA_OK) {
        status = wa_thread_start(&threads[started], "restore", work, f, err);
        started += status == WA_OK;
    }
    if (status == WA_OK)
        status = produce(f, err);
    if (status != WA_OK)
        fail(f, err);
    wa_queue_close(f->queue);
    for (size_t i = 0; i < started; i++)
        wa_thread_join(threads[i]);
    if (!atomic_load(&f->failed))
        return WA_OK;
    *err = f->error;
    return err->status;
}

wa_status
wa_fetch_files(const wa_restore_options *o, const char *label, const wa_layout *layout,
               const wa_expected *expected, wa_chain *chain, wa_control_file *ret, wa_error *err)
{
    fetch f = {.o = o,
               .label = label,
               .layout = layout,
               .expected = expected,
               .chain = chain,
               .control = ret};
    size_t jobs = o->jobs > 0 ? o->jobs : wa_processors();
    wa_mutex_init(&f.mutex);
    f.queue = wa_queue_new(jobs + 1);
    wa_status status = run_workers(&f, err);
    unit_free(f.open);
    wa_pack_release(f.pack);
    wa_queue_free(f.queue);
    wa_mutex_done(&f.mutex);
    if (status == WA_OK && !ret->there)
        return wa_error_set(err, WA_CORRUPT, "backup %s has no \"%s\"", label, WA_CONTROL_PATH);
    return status;
}
