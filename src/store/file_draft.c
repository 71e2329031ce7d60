/*
 * src/store/file_draft.c - the file:// driver: files without a name that become objects.
 *
 * A draft is an inode of the repository's file system that no directory knows (O_TMPFILE in the
 * root directory), so nothing is left of one whose writer dies. A put of it gives it the temporary
 * name that its bytes would else be copied to, and goes on as ever (file.c). Where that fails the
 * bytes are copied: a file system without such files, another one (a mirror), a directory whose
 * files belong to another group, a draft that has been put before.
 */
#include "file_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define WRITE_BACK_EVERY (1024u * 1024) /* bytes */

int
wa_fs_draft(wa_store *store)
{
    const wa_fs *fs = (const wa_fs *)store;
    wa_error ignored = WA_ERROR_INIT;
    if (wa_fs_check_root(fs, &ignored) != WA_OK) /* the put says so, or makes it */
        return -1;
    return open(fs->root, O_TMPFILE | O_RDWR | O_CLOEXEC, WA_FS_FILE_MODE);
}

/* Each whole stretch, once it has been filled; the rest is begun by the put. */
static void
begin_write_back(int fd, uint64_t offset, size_t len)
{
    uint64_t end = offset + len;
    uint64_t from = offset - offset % WRITE_BACK_EVERY, to = end - end % WRITE_BACK_EVERY;
    if (to > from)
        wa_fs_start_write_back(fd, from, to - from);
}

wa_status
wa_fs_draft_write(wa_store *store, int draft, uint64_t offset, const void *data, size_t len,
                  wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_TRY(wa_cancel_check(fs->cancel, err));
    WA_TRY(wa_fs_write(fs, draft, data, len, offset, "write a file in", fs->root, err));
    begin_write_back(draft, offset, len);
    return WA_OK;
}

static bool
is_whole_draft(const wa_body *body, const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_nlink == 0 && body->offset == 0 &&
           (uint64_t)st->st_size == body->len;
}

/* The group that a file has which is created in this directory? (The draft has the root's.) */
static bool
has_group_of(const struct stat *draft, const struct stat *dir)
{
    return draft->st_gid == dir->st_gid ||
           ((dir->st_mode & S_ISGID) == 0 && draft->st_gid == getegid());
}

int
wa_fs_name_draft(const wa_body *body, const char *dir, const char *name)
{
    struct stat draft, into;
    char self[32];
    if (body->data != NULL || fstat(body->fd, &draft) != 0 || !is_whole_draft(body, &draft))
        return -EINVAL;
    if (stat(dir, &into) != 0)
        return -errno;
    if (!has_group_of(&draft, &into))
        return -EPERM;
    WA_CLEANUP(wa_closep) int fd = fcntl(body->fd, F_DUPFD_CLOEXEC, 0);
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", body->fd);
    if (fd < 0 || linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) != 0)
        return -errno;
    return WA_TAKE_FD(fd);
}
