/*
 * src/store/file.c - the file:// driver: objects are files, written whole or not at all.
 *
 *   <root>/<key>                             the object
 *   <root>/<key>.meta                        its public facts; absent when there are none
 *   <root>/<dir>/.tmp-<16 hex>-<component>   being written; never counts
 *
 * A put, and which syncs it takes:
 *   1. Data and facts are written to temporary files (data may be a draft, file_draft.c, that was
 *      written before and is given a temporary name); sync_file_range starts the write-back of
 *      both, so that a journaling file system allocates blocks of both before the first commit.
 *   2. fdatasync of both. It must come before any final name exists: a name that is durable before
 *      its bytes are would be a torn object after a power failure. The second of the two finds its
 *      inode already committed and costs little.
 *   3. link(2) gives the facts, then the object, their names; link never replaces, so of two
 *      writers one wins. (A store that replaces uses rename.) The temporary names go away.
 *   4. One fsync of the directory makes both names durable.
 * Hence two journal commits a put, and neither can be saved. (Measured on ext4: starting the
 * write-back early takes a fifth off a small put, and nine tenths off the commit of 512 MiB.)
 * Between 2 and 3 a caller may wait for its turn (put_when): of puts that run side by side only the
 * second commit is made in order, and a commit takes with it what all of them have written.
 * Between 3 and 4 the object can be seen though a power failure could still undo it; therefore
 * EXISTS is answered only after another fsync of the directory. The two links need no sync between
 * them: file systems that journal (ext4, xfs, btrfs, zfs) and NFS servers never keep the later of
 * two names of a directory without the earlier. The same holds for a parent directory that another
 * process made a moment ago; those we make ourselves are synced.
 *
 * Invariants:
 *   (1) <key> exists => it is whole and its facts, if any, are those it was put with.
 *   (2) <key>.meta without <key> (a writer died between the links) counts as nothing.
 * Who changes <key>.meta or removes <key> holds an flock on the inode that <key>.meta names (a
 * creator: on the one it is about to name so). The lock ends with its process, so facts that a dead
 * writer left are told from those of a live one. Replacing an object that has facts is the one
 * thing that is not atomic: a reader may meet the old bytes with the new facts.
 * Before the first name and after the last sync the root must be the one seen before (file_root.c).
 */
#include "file_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/file.h"
#include "walagent/base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#define DIR_MODE 0750
#define COMPONENT_MAX (NAME_MAX - 5)        /* room for ".meta" */
#define LARGE (256u * 1024)                 /* bytes: leaves the page cache */
#define END_KEPT (128u * 1024)              /* bytes: facts and index, which are asked for soon */
#define WRITE_BACK_EVERY (8u * 1024 * 1024) /* bytes */
#define COPY_SIZE (256u * 1024)             /* bytes */
#define FILE_PART_SIZE (2u * 1024 * 1024)   /* bytes */
#define FILE_PARALLEL 4

/* A file under a temporary name. */
typedef struct staged {
    char *path; /* NULL: it has its final name */
    int fd;
} staged;

static void
staged_done(staged *s)
{
    if (s->path != NULL)
        (void)unlink(s->path);
    wa_freep(&s->path);
    wa_closep(&s->fd);
}

char *
wa_fs_path(const wa_fs *fs, const char *key)
{
    return wa_format("%s/%s", fs->root, key);
}

static void
user_name(char *out, size_t size)
{
    struct passwd entry, *found = NULL;
    char buffer[2048];
    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != NULL)
        (void)snprintf(out, size, "%s", entry.pw_name);
    else
        (void)snprintf(out, size, "%u", (unsigned)geteuid());
}

wa_status
wa_fs_fail(const wa_fs *fs, int errnum, const char *doing, const char *path, wa_error *err)
{
    char user[64], room[WA_SIZE_TEXT];
    (void)wa_error_errno(err, errnum, "could not %s \"%s\": %m", doing, path);
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        err->status = WA_NO_SPACE;
        return wa_error_hint(err, "The file system of \"%s\" has %s left: free space or %s.",
                             fs->root, wa_format_size(wa_disk_free(fs->root), room),
                             errnum == EDQUOT ? "raise the quota" : "enlarge it");
    case EACCES:
    case EPERM:
        err->status = WA_DENIED;
        user_name(user, sizeof user);
        return wa_error_hint(err, "User \"%s\" needs permission to read and write below \"%s\".",
                             user, fs->root);
    case EROFS:
        err->status = WA_DENIED;
        return wa_error_hint(err, "The file system of \"%s\" is mounted read-only.", fs->root);
    case ENAMETOOLONG:
        err->status = WA_INVALID;
        return err->status;
    case ENOTDIR:
        err->status = WA_INVALID;
        return wa_error_hint(err, "A part of this path is an object, not a directory.");
    case ESTALE:
    case ETIMEDOUT:
        err->status = WA_UNAVAILABLE;
        return wa_error_hint(err, "Is the file system of \"%s\" still mounted?", fs->root);
    default:
        return err->status;
    }
}

wa_status
wa_fs_not_found(const wa_fs *fs, const char *key, wa_error *err)
{
    WA_TRY(wa_fs_check_root(fs, err));
    return wa_error_set(err, WA_NOT_FOUND, "object \"%s\" does not exist in \"%s\"", key, fs->url);
}

/* ---- temporary files ---- */

/* Names longer than a component may be are refused before anything is written. */
static wa_status
check_components(const char *key, wa_error *err)
{
    for (const char *s = key;; s++) {
        size_t len = strcspn(s, "/");
        if (len > COMPONENT_MAX)
            return wa_error_set(err, WA_INVALID,
                                "object key \"%s\" has a component of more than %d bytes", key,
                                COMPONENT_MAX);
        s += len;
        if (*s == '\0')
            return WA_OK;
    }
}

static wa_status
staged_path(const char *dir, const char *key, char **ret, wa_error *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return wa_error_set(err, WA_IO, "could not get random bytes");
    *ret =
        wa_format("%s/" WA_FS_TMP_PREFIX "%016" PRIx64 "-%.200s", dir, random, wa_path_base(key));
    return WA_OK;
}

/* Creates missing directories. One that a concurrent delete takes away again is made again. */
static wa_status
stage(const wa_fs *fs, const char *key, staged *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    WA_CLEANUP(wa_freep) char *name = NULL;
    WA_TRY(staged_path(dir, key, &name, err));
    for (int attempt = 0;; attempt++) {
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, WA_FS_FILE_MODE);
        if (fd >= 0) {
            *ret = (staged){WA_TAKE(name), fd};
            return WA_OK;
        }
        int saved = errno;
        if (saved != ENOENT || attempt == 100)
            return wa_fs_fail(fs, saved, "create a file in", dir, err);
        wa_status status = wa_mkdir_p(dir, DIR_MODE, err);
        if (status != WA_OK && status != WA_NOT_FOUND)
            return status;
    }
}

void
wa_fs_start_write_back(int fd, uint64_t offset, uint64_t len)
{
    (void)sync_file_range(fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

wa_status
wa_fs_write(const wa_fs *fs, int fd, const void *data, size_t len, uint64_t offset,
            const char *doing, const char *path, wa_error *err)
{
    const char *from = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return wa_fs_fail(fs, n == 0 ? EIO : errno, doing, path, err);
        from += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return WA_OK;
}

static wa_status
write_body(const wa_fs *fs, const staged *s, const wa_body *body, const char *path, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *copy = body->data == NULL ? wa_malloc(COPY_SIZE) : NULL;
    uint64_t started = 0;
    for (uint64_t at = 0; at < body->len;) {
        WA_TRY(wa_cancel_check(fs->cancel, err));
        uint64_t left = body->len - at;
        size_t n = left < COPY_SIZE ? (size_t)left : COPY_SIZE;
        const char *from = copy;
        if (body->data != NULL)
            from = (const char *)body->data + at;
        else
            WA_TRY(wa_pread_all(body->fd, copy, n, (off_t)(body->offset + at), path, err));
        WA_TRY(wa_fs_write(fs, s->fd, from, n, at, "write file", path, err));
        at += n;
        if (at - started >= WRITE_BACK_EVERY || at == body->len) {
            wa_fs_start_write_back(s->fd, started, at - started);
            started = at;
        }
    }
    return WA_OK;
}

/*
 * What a file's bytes read as is known when they are on the disk: the write-back of some may have
 * failed, and where the kernel has dropped those pages since, others are read. Only a sync says so.
 */
static wa_status
sync_source(const wa_fs *fs, const wa_body *body, const char *path, wa_error *err)
{
    if (body->data == NULL && fdatasync(body->fd) != 0)
        return wa_fs_fail(fs, errno, "synchronize the bytes for file", path, err);
    return WA_OK;
}

/* A missing directory is made, as for a file that is written there. */
static wa_status
stage_draft(const wa_body *body, const char *dir, const char *name, int *ret_fd, wa_error *err)
{
    *ret_fd = wa_fs_name_draft(body, dir, name);
    if (*ret_fd != -ENOENT)
        return WA_OK;
    wa_status status = wa_mkdir_p(dir, DIR_MODE, err);
    if (status == WA_NOT_FOUND) { /* somebody deletes beside us: that is for the copy */
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    *ret_fd = wa_fs_name_draft(body, dir, name);
    return WA_OK;
}

/* The bytes under a temporary name: the draft itself that they are, or a copy. */
static wa_status
stage_body(const wa_fs *fs, const char *key, const wa_body *body, staged *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    WA_CLEANUP(wa_freep) char *name = NULL;
    WA_TRY(staged_path(dir, key, &name, err));
    int fd = -1;
    WA_TRY(stage_draft(body, dir, name, &fd, err));
    if (fd >= 0) {
        *ret = (staged){WA_TAKE(name), fd};
        wa_fs_start_write_back(fd, 0, body->len);
        return WA_OK;
    }
    WA_TRY(sync_source(fs, body, path, err));
    WA_TRY(stage(fs, key, ret, err));
    return write_body(fs, ret, body, path, err);
}

static wa_status
stage_meta(const wa_fs *fs, const char *key, const char *meta, staged *ret, wa_error *err)
{
    if (wa_str_empty(meta))
        return WA_OK;
    WA_TRY(stage(fs, key, ret, err));
    /* Held until the object has its name; nobody else can know this inode yet. */
    if (flock(ret->fd, LOCK_EX | LOCK_NB) != 0)
        return wa_fs_fail(fs, errno, "lock file", ret->path, err);
    wa_body body = {meta, strlen(meta), -1, 0};
    return write_body(fs, ret, &body, ret->path, err);
}

static wa_status
sync_staged(const wa_fs *fs, const staged *s, const char *path, wa_error *err)
{
    if (s->fd >= 0 && fdatasync(s->fd) != 0)
        return wa_fs_fail(fs, errno, "synchronize file", path, err);
    return WA_OK;
}

/* ---- names ---- */

static bool
same_inode(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* Give the file its name unless that is taken: 0 or an errno value. */
static int
name_without_replacing(staged *s, const char *path)
{
    if (link(s->path, path) == 0)
        return 0;
    int saved = errno;
    if (saved == EEXIST) /* an NFS reply may have been lost on the way */
        return same_inode(s->fd, path) ? 0 : EEXIST;
    if (saved != EPERM && saved != EOPNOTSUPP && saved != ENOSYS && saved != EMLINK)
        return saved;
    if (renameat2(AT_FDCWD, s->path, AT_FDCWD, path, RENAME_NOREPLACE) != 0)
        return errno == EINVAL ? saved : errno;
    wa_freep(&s->path);
    return 0;
}

static int
name_replacing(staged *s, const char *path)
{
    if (rename(s->path, path) != 0)
        return errno;
    wa_freep(&s->path);
    return 0;
}

static void
drop_temporary_name(staged *s)
{
    if (s->path != NULL)
        (void)unlink(s->path);
    wa_freep(&s->path);
}

wa_status
wa_fs_lock_facts(const wa_fs *fs, const char *key, int *ret_fd, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/%s" WA_FS_META_SUFFIX, fs->root, key);
    wa_mono deadline = wa_mono_now() + fs->budget_ms;
    for (;;) {
        WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && errno == EACCES)
            fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
            *ret_fd = -1;
            return WA_OK;
        }
        if (fd < 0)
            return wa_fs_fail(fs, errno, "open file", path, err);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            if (!same_inode(fd, path))
                continue; /* replaced while we waited */
            *ret_fd = WA_TAKE_FD(fd);
            return WA_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR)
            return wa_fs_fail(fs, errno, "lock file", path, err);
        if (wa_mono_left(deadline) == 0)
            return wa_error_set(err, WA_UNAVAILABLE, "file \"%s\" stayed locked by another writer",
                                path);
        WA_TRY(wa_cancel_sleep(fs->cancel, 2, err));
    }
}

/* EXISTS, once what exists is durable; OK when it is gone again. */
static wa_status
refuse(const wa_fs *fs, const char *key, const char *path, wa_error *err)
{
    wa_status status = wa_fsync_parent(path, err);
    if (status == WA_NOT_FOUND) { /* a deleter took object and directory away: not taken any more */
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    return wa_error_set(err, WA_EXISTS, "object \"%s\" already exists in \"%s\"", key, fs->url);
}

static wa_status
check_not_taken(const wa_fs *fs, const char *key, const char *path, wa_error *err)
{
    struct stat st;
    if (lstat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return wa_error_set(err, WA_INVALID, "object key \"%s\" is a directory in \"%s\"", key,
                                fs->url);
        return refuse(fs, key, path, err);
    }
    return errno == ENOENT ? WA_OK : wa_fs_fail(fs, errno, "access file", path, err);
}

/*
 * Make <key>.meta what it has to be before the object gets its name: our facts, or nothing.
 * Facts of a dead writer are replaced; those of an object that exists are left alone in create
 * mode. *ret_lock: the lock on facts that were there before (closed by the caller after naming), or
 * -1.
 */
static wa_status
claim_facts(const wa_fs *fs, const char *key, const char *path, staged *meta, wa_put_mode mode,
            int *ret_lock, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *meta_path = wa_format("%s" WA_FS_META_SUFFIX, path);
    for (;;) {
        if (meta->path != NULL) {
            int failed = name_without_replacing(meta, meta_path);
            if (failed == 0)
                return WA_OK;
            if (failed != EEXIST)
                return wa_fs_fail(fs, failed, "create file", meta_path, err);
        }
        WA_CLEANUP(wa_closep) int lock = -1;
        WA_TRY(wa_fs_lock_facts(fs, key, &lock, err));
        if (lock < 0 && meta->path != NULL)
            continue; /* removed in between */
        if (lock < 0)
            return WA_OK;
        if (mode == WA_PUT_CREATE)
            WA_TRY(check_not_taken(fs, key, path, err));
        int failed = 0;
        if (meta->path != NULL)
            failed = name_replacing(meta, meta_path);
        else if (unlink(meta_path) != 0)
            failed = errno;
        if (failed != 0)
            return wa_fs_fail(fs, failed, "replace file", meta_path, err);
        *ret_lock = WA_TAKE_FD(lock);
        return WA_OK;
    }
}

/* Name facts and object. When the object's name is taken after all, our facts go away again. */
static wa_status
give_names(const wa_fs *fs, const char *key, const char *path, staged *data, staged *meta,
           wa_put_mode mode, wa_error *err)
{
    WA_CLEANUP(wa_closep) int lock = -1;
    WA_TRY(claim_facts(fs, key, path, meta, mode, &lock, err));
    WA_CRASH_POINT("store-file-between-names");
    int failed =
        mode == WA_PUT_CREATE ? name_without_replacing(data, path) : name_replacing(data, path);
    if (failed == 0)
        return WA_OK;
    if (meta->fd >= 0) {
        WA_CLEANUP(wa_freep) char *meta_path = wa_format("%s" WA_FS_META_SUFFIX, path);
        if (same_inode(meta->fd, meta_path))
            (void)unlink(meta_path);
    }
    if (failed == EEXIST)
        WA_TRY(check_not_taken(fs, key, path, err));
    if (failed == EISDIR)
        return wa_error_set(err, WA_INVALID, "object key \"%s\" is a directory in \"%s\"", key,
                            fs->url);
    return wa_fs_fail(fs, failed, "create file", path, err);
}

/* Bytes and facts are durable, under temporary names. */
static wa_status
sync_both(const wa_fs *fs, const char *key, const staged *data, const staged *meta, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_TRY(sync_staged(fs, data, path, err));
    return sync_staged(fs, meta, path, err);
}

/* Its pages are for what comes next, and the database's stay in the cache. Who follows close behind
 * reads it from the disk. A draft that became the object is its owner's: mirrors may copy it yet.
 */
static void
let_go(const staged *data, const wa_body *body)
{
    struct stat st, draft;
    if (fstat(data->fd, &st) != 0 || st.st_size < (off_t)LARGE)
        return;
    if (body != NULL && body->data == NULL && fstat(body->fd, &draft) == 0 &&
        draft.st_ino == st.st_ino)
        return;
    wa_file_let_go(data->fd, END_KEPT);
}

/* Final names for what was synced. */
static wa_status
publish(const wa_fs *fs, const char *key, staged *data, staged *meta, wa_put_mode mode,
        wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_CRASH_POINT("store-file-before-names");
    WA_TRY(give_names(fs, key, path, data, meta, mode, err));
    drop_temporary_name(meta);
    drop_temporary_name(data);
    WA_CRASH_POINT("store-file-before-directory-sync");
    wa_status status = wa_fsync_parent(path, err);
    if (status == WA_OK)
        wa_fs_saw(fs, path, data->fd, false);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err); /* put, and deleted with its directory by somebody else since */
    return wa_fs_check_root(fs, err);
}

static wa_status
file_put_when(wa_store *store, const char *key, const wa_body *body, const char *meta,
              wa_put_mode mode, wa_put_ready_fn ready, void *arg, wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_TRY(wa_cancel_check(fs->cancel, err));
    WA_TRY(check_components(key, err));
    WA_TRY(wa_fs_check_writable(fs, err));
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    if (mode == WA_PUT_CREATE)
        WA_TRY(check_not_taken(fs, key, path, err));
    WA_CLEANUP(staged_done) staged data = {NULL, -1};
    WA_CLEANUP(staged_done) staged facts = {NULL, -1};
    WA_TRY(stage_body(fs, key, body, &data, err));
    WA_TRY(stage_meta(fs, key, meta, &facts, err));
    WA_TRY(sync_both(fs, key, &data, &facts, err));
    let_go(&data, body);
    if (ready != NULL) {
        WA_TRY(ready(arg, err));
        WA_TRY(wa_fs_check_writable(fs, err)); /* it may have taken long */
    }
    return publish(fs, key, &data, &facts, mode, err);
}

static wa_status
file_put(wa_store *store, const char *key, const wa_body *body, const char *meta, wa_put_mode mode,
         wa_error *err)
{
    return file_put_when(store, key, body, meta, mode, NULL, NULL, err);
}

/* ---- uploads in parts ---- */

typedef struct file_upload {
    wa_upload base;
    char *key, *meta, *path;
    staged data;
    int direct; /* the same file; -1: none */
    wa_mutex mutex;
    wa_parts parts; /* guarded by mutex */
} file_upload;

static wa_status
file_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                  wa_upload **ret, wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_TRY(wa_cancel_check(fs->cancel, err));
    WA_TRY(check_components(key, err));
    WA_TRY(wa_fs_check_writable(fs, err));
    staged data;
    WA_TRY(stage(fs, key, &data, err));
    file_upload *u = wa_calloc(1, sizeof *u);
    u->base.store = store;
    u->key = wa_strdup(key);
    u->meta = wa_strdup(meta);
    u->path = wa_fs_path(fs, key);
    u->data = data;
    u->direct = wa_fs_open_direct(data.path);
    u->parts.part_size = part_size;
    wa_mutex_init(&u->mutex);
    *ret = &u->base;
    return WA_OK;
}

static wa_status
file_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len, wa_error *err)
{
    file_upload *u = (file_upload *)upload;
    const wa_fs *fs = (const wa_fs *)upload->store;
    WA_TRY(wa_cancel_check(fs->cancel, err));
    if (len > u->parts.part_size)
        return wa_parts_add(&u->parts, u->key, number, len, err);
    uint64_t offset = (number - 1) * u->parts.part_size;
    WA_TRY(wa_fs_write_part(fs, u->direct, u->data.fd, data, len, offset, u->path, err));
    WA_LOCK(&u->mutex);
    return wa_parts_add(&u->parts, u->key, number, len, err);
}

static wa_status
file_upload_commit(wa_upload *upload, wa_error *err)
{
    file_upload *u = (file_upload *)upload;
    const wa_fs *fs = (const wa_fs *)upload->store;
    uint64_t size = 0;
    WA_TRY(wa_parts_check(&u->parts, u->key, &size, err));
    WA_TRY(wa_fs_check_writable(fs, err));
    WA_CLEANUP(staged_done) staged facts = {NULL, -1};
    WA_TRY(stage_meta(fs, u->key, u->meta, &facts, err));
    WA_TRY(sync_both(fs, u->key, &u->data, &facts, err));
    WA_TRY(
        publish(fs, u->key, &u->data, &facts, upload->keeps ? WA_PUT_CREATE : WA_PUT_REPLACE, err));
    let_go(&u->data, NULL);
    return WA_OK;
}

static void
file_upload_free(wa_upload *upload)
{
    file_upload *u = (file_upload *)upload;
    staged_done(&u->data);
    wa_closep(&u->direct);
    wa_freep(&u->parts.sizes);
    wa_mutex_done(&u->mutex);
    wa_freep(&u->key);
    wa_freep(&u->meta);
    wa_freep(&u->path);
    wa_freep(&u);
}

/* ---- the store ---- */

static void
file_free(wa_store *store)
{
    wa_fs *fs = (wa_fs *)store;
    wa_fs_seen_free(fs->seen);
    wa_freep(&fs->root);
    wa_freep(&fs->url);
    wa_freep(&fs);
}

static const wa_store_ops file_ops = {
    .free = file_free,
    .put = file_put,
    .put_when = file_put_when,
    .settle = wa_fs_settle,
    .draft = wa_fs_draft,
    .draft_write = wa_fs_draft_write,
    .get = wa_fs_get,
    .head = wa_fs_head,
    .remove = wa_fs_remove,
    .list = wa_fs_list,
    .upload_begin = file_upload_begin,
    .upload_part = file_upload_part,
    .upload_commit = file_upload_commit,
    .upload_free = file_upload_free,
    .abort_uploads = wa_fs_abort_uploads,
};

wa_status
wa_store_file_open(const wa_store_options *options, wa_store **ret, wa_error *err)
{
    const char *path = options->url + strlen("file://");
    if (path[0] != '/') {
        (void)wa_error_set(err, WA_INVALID, "repository URL \"%s\" has no absolute path",
                           options->url);
        return wa_error_hint(err, "Use three slashes: file:///PATH.");
    }
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 1)
        return wa_error_set(err, WA_INVALID, "the root directory can't be a repository");
    wa_fs *fs = wa_calloc(1, sizeof *fs);
    fs->root = wa_strndup(path, len);
    fs->url = wa_format("file://%s", fs->root);
    fs->seen = wa_fs_seen_new();
    fs->budget_ms = options->budget_ms ? options->budget_ms : 60000;
    fs->cancel = options->cancel;
    fs->base.ops = &file_ops;
    fs->base.traits = (wa_store_traits){"file", fs->url, true, true, FILE_PART_SIZE, FILE_PARALLEL};
    *ret = &fs->base;
    return WA_OK;
}
