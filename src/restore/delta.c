/*
 * restore/delta.c - bring a directory that has files already to the backup's state: what is right
 * stays, what doesn't belong goes.
 */
#include "restore_internal.h"

#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/base/log.h"
#include "walagent/base/str.h"
#include "walagent/codec/container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256u * 1024)

static bool
has_checksum(const wa_delta_job *job, int fd)
{
    WA_CLEANUP(wa_freep) uint8_t *buffer = wa_malloc(READ_BYTES);
    uint32_t crc = 0;
    uint64_t done = 0;
    for (;;) {
        ssize_t n = job->read_at(fd, buffer, READ_BYTES, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            return done == job->file->size && crc == job->file->crc;
        crc = wa_crc32c(crc, buffer, (size_t)n);
        done += (uint64_t)n;
    }
}

void
wa_delta_is_right(const wa_delta_job *job, wa_delta_found *ret)
{
    const wa_unit_file *file = job->file;
    struct stat st;
    *ret = (wa_delta_found){.done = false};
    WA_CLEANUP(wa_closep) int fd = open(job->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size != file->size || !has_checksum(job, fd))
        return;
    /* A file that could not be given its mode is written anew, and fails there with a reason. */
    struct timespec times[2] = {{.tv_sec = file->mtime}, {.tv_sec = file->mtime}};
    if (fchmod(fd, (mode_t)file->mode & 0777) == 0 && futimens(fd, times) == 0)
        *ret = (wa_delta_found){.done = true, .whole = true, .kept = file->size};
}

/* It has the size and the time that the backup's has. Proves nothing. */
static bool
seems_right(const wa_delta_job *job)
{
    struct stat st;
    return lstat(job->path, &st) == 0 && (uint64_t)st.st_size == job->file->size &&
           st.st_mtim.tv_sec == job->file->mtime;
}

wa_status
wa_delta_keep(const wa_delta_job *job, wa_delta_found *ret, wa_error *err)
{
    bool by_block = wa_delta_blocks_pay(job) && !wa_fetch_has_other_names(job->path);
    *ret = (wa_delta_found){.done = false};
    /* To see whether the whole file is right takes less time than block by block, but if it isn't,
     * it is read twice. And where each frame's checksum costs a read, these are asked for only when
     * the file is known to differ. */
    if (!by_block || !wa_container_has_sums(wa_pack_container(job->pack)) || seems_right(job))
        wa_delta_is_right(job, ret);
    return ret->done || !by_block ? WA_OK : wa_delta_by_block(job, ret, err);
}

/* ---- what belongs ---- */

typedef struct clean {
    const wa_restore_options *o;
    const wa_layout *l;
    uint64_t *items; /* sorted fingerprints of path and kind */
    size_t count, capacity;
    uint64_t removed;
} clean;

static void
add(clean *c, const char *path, char type)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity == 0 ? 4096 : c->capacity + c->capacity / 2;
        c->items = wa_reallocarray(c->items, c->capacity, sizeof *c->items);
    }
    c->items[c->count++] = wa_path_fingerprint(path, (uint64_t)type);
}

static wa_status
add_file(void *arg, const wa_backup_file *f, wa_error *err)
{
    (void)err;
    WA_CLEANUP(wa_freep) char *stands_for = wa_incremental_target(f->path);
    if (f->type != 'l')
        add(arg, stands_for != NULL ? stands_for : f->path, f->type);
    return WA_OK;
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool
belongs(const clean *c, const char *path, char type)
{
    uint64_t key = wa_path_fingerprint(path, (uint64_t)type);
    return bsearch(&key, c->items, c->count, sizeof key, compare) != NULL;
}

/* ---- what goes ---- */

static wa_status walk(clean *c, const char *relative, wa_error *err);

static const wa_place *
tablespace_of_link(const clean *c, const char *path)
{
    for (size_t i = 1; i < c->l->count; i++) {
        char link[32];
        snprintf(link, sizeof link, "pg_tblspc/%u", c->l->places[i].oid);
        if (strcmp(link, path) == 0)
            return &c->l->places[i];
    }
    return NULL;
}

/* Only behind a link that leads where this restore writes is anything removed. */
static wa_status
visit_tablespace(clean *c, const wa_place *place, const char *path, const char *full, wa_error *err)
{
    char leads_to[PATH_MAX];
    ssize_t len = readlink(full, leads_to, sizeof leads_to - 1);
    if (len >= 0)
        leads_to[len] = '\0';
    bool right = place->in_place ? len < 0 : len >= 0 && strcmp(leads_to, place->path) == 0;
    return right ? walk(c, path, err) : wa_remove_tree(full, err);
}

static wa_status
visit(clean *c, const char *path, const char *full, wa_error *err)
{
    struct stat st;
    if (lstat(full, &st) != 0) {
        if (errno == ENOENT)
            return WA_OK;
        return wa_error_errno(err, errno, "could not look at \"%s\": %m", full);
    }
    const wa_place *place = tablespace_of_link(c, path);
    if (place != NULL)
        return visit_tablespace(c, place, path, full, err);
    if (S_ISDIR(st.st_mode) && belongs(c, path, 'd'))
        return walk(c, path, err);
    /* A data directory may have its WAL on another disk. */
    if (S_ISLNK(st.st_mode) && strcmp(path, "pg_wal") == 0 && belongs(c, path, 'd'))
        return walk(c, path, err);
    if (S_ISREG(st.st_mode) && (belongs(c, path, 'f') || strcmp(path, "backup_manifest") == 0))
        return WA_OK;
    c->removed++;
    return wa_remove_tree(full, err);
}

/* At the top of a tablespace's directory other majors' directories may lie: not ours to remove. */
static bool
is_foreign_to_tablespace(const clean *c, const char *relative, const char *path)
{
    return tablespace_of_link(c, relative) != NULL && !belongs(c, path, 'd') &&
           !belongs(c, path, 'f');
}

static wa_status
walk(clean *c, const char *relative, wa_error *err)
{
    WA_TRY(wa_cancel_check(c->o->cancel, err));
    WA_CLEANUP(wa_freep)
    char *dir = relative[0] == '\0' ? wa_strdup(c->l->root) : wa_path_join(c->l->root, relative);
    WA_CLEANUP(wa_strv_done) wa_strv names = {0};
    DIR *d = opendir(dir);
    if (d == NULL && errno == ENOENT)
        return WA_OK; /* a link to a directory that is not there yet */
    if (d == NULL)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", dir);
    errno = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            wa_strv_add(&names, e->d_name);
    int read_error = errno;
    closedir(d);
    if (read_error != 0)
        return wa_error_errno(err, read_error, "could not read directory \"%s\": %m", dir);
    for (size_t i = 0; i < names.count; i++) {
        WA_CLEANUP(wa_freep)
        char *path = relative[0] == '\0' ? wa_strdup(names.items[i])
                                         : wa_path_join(relative, names.items[i]);
        WA_CLEANUP(wa_freep) char *full = wa_path_join(dir, names.items[i]);
        if (!is_foreign_to_tablespace(c, relative, path))
            WA_TRY(visit(c, path, full, err));
    }
    return WA_OK;
}

static void
clean_done(clean *c)
{
    wa_freep(&c->items);
}

wa_status
wa_delta_clean(const wa_restore_options *o, const wa_layout *l, const char *label, wa_error *err)
{
    WA_CLEANUP(clean_done) clean c = {.o = o, .l = l};
    /* From here on the directory does not start until everything is right. */
    WA_CLEANUP(wa_freep) char *control = wa_path_join(l->root, WA_CONTROL_PATH);
    if (unlink(control) == 0)
        WA_TRY(wa_fsync_parent(control, err));
    else if (errno != ENOENT && errno != ENOTDIR)
        return wa_error_errno(err, errno, "could not remove file \"%s\": %m", control);
    add(&c, "pg_tblspc", 'd');
    WA_TRY(wa_backup_files(o->repo, label, add_file, &c, err));
    qsort(c.items, c.count, sizeof *c.items, compare);
    WA_TRY(walk(&c, "", err));
    if (c.removed > 0)
        wa_say(&o->listener, WA_LOG_NOTICE, NULL,
               "removed %llu files and directories that the backup doesn't have",
               (unsigned long long)c.removed);
    return WA_OK;
}
