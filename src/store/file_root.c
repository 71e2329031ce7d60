/*
 * src/store/file_root.c - the file:// driver: is the root directory still the repository?
 *
 * When a file system goes away, its mount point stays: an empty directory, perhaps a writable one.
 * What is written there is acknowledged and lost, and "not there" is a false statement. Hence a
 * store remembers the directory (device and inode) in which it first found or wrote an object, and
 * any other one at its place is UNAVAILABLE. Until then nothing is remembered: a file system that
 * is mounted after the store was opened is taken as it is.
 *
 * A file system that comes back may have another device number (NFS, LVM, btrfs). It is known again
 * by its witness: the object read first, with the same inode, size and time.
 */
#include "file_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/thread.h"

#include <errno.h>
#include <string.h>

struct wa_fs_seen {
    wa_mutex mutex;
    bool known; /* device and inode are those of the repository */
    dev_t device;
    ino_t inode;
    char *witness; /* path; NULL: nothing was read yet */
    struct stat witness_stat;
};

wa_fs_seen *
wa_fs_seen_new(void)
{
    wa_fs_seen *seen = wa_calloc(1, sizeof *seen);
    wa_mutex_init(&seen->mutex);
    return seen;
}

void
wa_fs_seen_free(wa_fs_seen *seen)
{
    if (seen == NULL)
        return;
    wa_freep(&seen->witness);
    wa_mutex_done(&seen->mutex);
    wa_freep(&seen);
}

static bool
is_witness(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Under the mutex. */
static bool
is_the_one_seen(wa_fs_seen *seen, const struct stat *root)
{
    struct stat st;
    if (!seen->known || (root->st_dev == seen->device && root->st_ino == seen->inode))
        return true;
    if (seen->witness == NULL || stat(seen->witness, &st) != 0 ||
        !is_witness(&st, &seen->witness_stat))
        return false;
    seen->device = root->st_dev;
    seen->inode = root->st_ino;
    return true;
}

void
wa_fs_saw(const wa_fs *fs, const char *path, int fd, bool read)
{
    wa_fs_seen *seen = fs->seen;
    struct stat root, opened, named;
    WA_LOCK(&seen->mutex);
    if (seen->known && (seen->witness != NULL || !read))
        return;
    /* The root first, then the name again: so the object lies in this very root. */
    if (stat(fs->root, &root) != 0 || fstat(fd, &opened) != 0 || stat(path, &named) != 0 ||
        opened.st_dev != named.st_dev || opened.st_ino != named.st_ino)
        return;
    if (!is_the_one_seen(seen, &root))
        return;
    seen->known = true;
    seen->device = root.st_dev;
    seen->inode = root.st_ino;
    if (read) {
        seen->witness = wa_strdup(path);
        seen->witness_stat = opened;
    }
}

static wa_status
look_at_root(const wa_fs *fs, bool *ret_missing, wa_error *err)
{
    wa_fs_seen *seen = fs->seen;
    struct stat st;
    WA_LOCK(&seen->mutex);
    *ret_missing = false;
    if (stat(fs->root, &st) != 0) {
        if (errno != ENOENT)
            return wa_fs_fail(fs, errno, "access repository directory", fs->root, err);
        *ret_missing = !seen->known;
        (void)wa_error_set(err, WA_UNAVAILABLE, "repository directory \"%s\" does not exist",
                           fs->root);
        return wa_error_hint(err, seen->known
                                      ? "Is its file system still mounted?"
                                      : "Is its file system mounted? \"walagent init\" creates "
                                        "it.");
    }
    if (!S_ISDIR(st.st_mode))
        return wa_error_set(err, WA_INVALID, "repository \"%s\" is not a directory", fs->root);
    if (is_the_one_seen(seen, &st))
        return WA_OK;
    (void)wa_error_set(err, WA_UNAVAILABLE,
                       "repository directory \"%s\" is not the one that was there before",
                       fs->root);
    return wa_error_hint(err, "Is its file system still mounted? When the repository was moved on "
                              "purpose, restart walagent.");
}

wa_status
wa_fs_check_root(const wa_fs *fs, wa_error *err)
{
    bool missing;
    return look_at_root(fs, &missing, err);
}

wa_status
wa_fs_check_writable(const wa_fs *fs, wa_error *err)
{
    bool missing;
    wa_status status = look_at_root(fs, &missing, err);
    if (!missing)
        return status;
    wa_error_clear(err); /* a new repository: the first object makes its directory */
    return WA_OK;
}
