/*
 * path.c - paths and directory trees (declared in file.h).
 */
#include "walagent/base/file.h"
#include "walagent/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

char *
wa_path_join(const char *dir, const char *name)
{
    size_t len = strlen(dir);
    return wa_format("%s%s%s", dir, len > 0 && dir[len - 1] == '/' ? "" : "/", name);
}

const char *
wa_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

char *
wa_path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return wa_strdup(".");
    while (slash > path && slash[-1] == '/')
        slash--;
    return slash == path ? wa_strdup("/") : wa_strndup(path, (size_t)(slash - path));
}

bool
wa_path_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

static bool
is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static void
closedirp(DIR **dir)
{
    if (*dir != NULL)
        closedir(*dir);
}

/* The next entry apart from "." and "..", NULL at the end (errno 0) or on failure. */
static struct dirent *
next_entry(DIR *dir)
{
    struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry != NULL && is_dot(entry->d_name));
    return entry;
}

bool
wa_dir_is_empty(const char *path)
{
    WA_CLEANUP(closedirp) DIR *dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT;
    return next_entry(dir) == NULL && errno == 0;
}

uint64_t
wa_disk_free(const char *path)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return UINT64_MAX;
    return (uint64_t)st.f_bavail * st.f_frsize;
}

static wa_status
make_one(const char *path, mode_t mode, wa_error *err)
{
    struct stat st;
    if (mkdir(path, mode) == 0)
        return wa_fsync_parent(path, err);
    int errnum = errno;
    /* EROFS, EACCES and the like come for existing directories too: look before complaining */
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return WA_OK;
        errnum = ENOTDIR;
    }
    return wa_error_errno(err, errnum, "could not create directory \"%s\": %m", path);
}

wa_status
wa_mkdir_p(const char *path, mode_t mode, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_strdup(path);
    size_t len = strlen(prefix);
    while (len > 1 && prefix[len - 1] == '/')
        prefix[--len] = '\0';
    for (size_t i = 1; i < len; i++) {
        if (prefix[i] != '/' || prefix[i - 1] == '/')
            continue;
        prefix[i] = '\0';
        WA_TRY(make_one(prefix, mode, err));
        prefix[i] = '/';
    }
    return make_one(prefix, mode, err);
}

static wa_status remove_below(int parent, const char *name, const char *path, wa_error *err);

/* One entry of a directory: a directory with all that is in it, or anything else by its name. */
static wa_status
remove_entry(int parent, const char *name, const char *path, wa_error *err)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return WA_OK;
    if (errno != EISDIR && errno != EPERM) /* EPERM is POSIX's word for "a directory" */
        return wa_error_errno(err, errno, "could not remove file \"%s\": %m", path);
    WA_TRY(remove_below(parent, name, path, err));
    if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return wa_error_errno(err, errno, "could not remove directory \"%s\": %m", path);
    return WA_OK;
}

static wa_status
remove_below(int parent, const char *name, const char *path, wa_error *err)
{
    WA_CLEANUP(wa_closep)
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", path);
    WA_CLEANUP(closedirp) DIR *dir = fdopendir(fd);
    if (dir == NULL)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", path);
    fd = -1; /* the stream's from here */
    struct dirent *entry;
    while ((entry = next_entry(dir)) != NULL) {
        WA_CLEANUP(wa_freep) char *child = wa_path_join(path, entry->d_name);
        WA_TRY(remove_entry(dirfd(dir), entry->d_name, child, err));
    }
    if (errno != 0)
        return wa_error_errno(err, errno, "could not read directory \"%s\": %m", path);
    return WA_OK;
}

wa_status
wa_remove_tree(const char *path, wa_error *err)
{
    return remove_entry(AT_FDCWD, path, path, err);
}
