/*
 * local_walk.c - what of a data directory belongs to a base backup: the server's own rules, on the
 * directory itself.
 *
 * Order: by name, each directory before what is in it. Files may come and go meanwhile; what
 * vanished is none.
 */
#include "local_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/log.h"
#include "walagent/pg/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static wa_status walk(wa_local *l, const char *dir, wa_error *err);

static wa_status
add_directory(wa_local *l, const char *path, const struct stat *st, wa_error *err)
{
    /* A link where the server keeps a directory of its own becomes one. */
    mode_t mode = S_ISDIR(st->st_mode) ? st->st_mode & 07777 : 0700;
    wa_tar_entry entry = {
        .path = path, .type = WA_TAR_DIRECTORY, .mode = mode, .mtime = st->st_mtime};
    return wa_packer_add_other(l->packer, &entry, path, err);
}

/* pg_wal, maybe a link, without its content: the archive has it. */
static wa_status
add_wal_directory(wa_local *l, const struct stat *st, wa_error *err)
{
    WA_TRY(add_directory(l, "pg_wal", st, err));
    WA_TRY(add_directory(l, "pg_wal/archive_status", st, err));
    return l->info->major >= 17 ? add_directory(l, "pg_wal/summaries", st, err) : WA_OK;
}

/* A tablespace: the link is kept, and only the directory of this major and catalog below it. */
static wa_status
add_tablespace(wa_local *l, const char *path, const struct stat *st, wa_error *err)
{
    char target[4096];
    WA_CLEANUP(wa_freep) char *full = wa_path_join(l->options->data_dir, path);
    ssize_t len = readlink(full, target, sizeof target - 1);
    if (len < 0 && errno == ENOENT)
        return WA_OK;
    if (len < 0 || (size_t)len >= sizeof target - 1)
        return wa_error_errno(err, len < 0 ? errno : ENAMETOOLONG, "could not read link \"%s\": %m",
                              full);
    target[len] = '\0';
    uint64_t oid = 0;
    wa_error ignored = WA_ERROR_INIT;
    if (wa_parse_u64(strrchr(path, '/') + 1, &oid, &ignored) != WA_OK || oid > UINT32_MAX)
        return WA_OK;
    wa_backup_info *info = l->info;
    info->tablespaces =
        wa_reallocarray(info->tablespaces, info->tablespace_count + 1, sizeof *info->tablespaces);
    info->tablespaces[info->tablespace_count++] =
        (wa_backup_tablespace){.oid = (uint32_t)oid, .location = wa_strdup(target)};
    wa_tar_entry entry = {
        .path = path, .link = target, .type = WA_TAR_SYMLINK, .mode = 0777, .mtime = st->st_mtime};
    WA_TRY(wa_packer_add_other(l->packer, &entry, path, err));
    WA_CLEANUP(wa_freep)
    char *dir = wa_format("%s/PG_%d_%u", path, l->control.major, l->control.catalog_version);
    return walk(l, dir, err);
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* An unlogged relation has an init fork; only that is kept. */
static bool
is_unlogged(const wa_strv *names, const char *name)
{
    wa_relfile file;
    char init[32];
    const char *key = init;
    if (!wa_relfile_parse(name, &file) || file.fork == WA_FORK_INIT)
        return false;
    (void)snprintf(init, sizeof init, "%u_init", file.number);
    return bsearch(&key, names->items, names->count, sizeof *names->items, by_name) != NULL;
}

static bool
is_left_out(const char *dir, const wa_strv *names, const char *name)
{
    if (wa_datadir_is_excluded(name))
        return true;
    if (strcmp(dir, "global") == 0 && strcmp(name, "pg_control") == 0)
        return true; /* the last file */
    return wa_datadir_is_database(dir) &&
           (wa_relfile_is_temporary(name) || is_unlogged(names, name));
}

static wa_status
visit(wa_local *l, const char *dir, const char *name, wa_error *err)
{
    WA_CLEANUP(wa_freep)
    char *path = dir[0] == '\0' ? wa_strdup(name) : wa_path_join(dir, name);
    WA_CLEANUP(wa_freep) char *full = wa_path_join(l->options->data_dir, path);
    struct stat st;
    if (lstat(full, &st) != 0)
        return errno == ENOENT ? WA_OK
                               : wa_error_errno(err, errno, "could not look up \"%s\": %m", full);
    if (strcmp(path, "pg_wal") == 0)
        return add_wal_directory(l, &st, err);
    if (wa_datadir_is_emptied(name) && !S_ISREG(st.st_mode))
        return add_directory(l, path, &st, err);
    if (S_ISDIR(st.st_mode))
        return walk(l, path, err);
    if (S_ISREG(st.st_mode))
        return wa_local_copy_file(l, dir, path, err);
    if (S_ISLNK(st.st_mode) && strcmp(dir, "pg_tblspc") == 0)
        return add_tablespace(l, path, &st, err);
    wa_say(&l->options->listener, WA_LOG_WARNING, NULL, "\"%s\" is not copied: it is %s", path,
           S_ISLNK(st.st_mode) ? "a symbolic link" : "no file, directory or link");
    return WA_OK;
}

static void
close_dirp(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

/* ret_there false: the directory vanished. */
static wa_status
list(const char *full, wa_strv *names, struct stat *st, bool *ret_there, wa_error *err)
{
    WA_CLEANUP(close_dirp) DIR *d = opendir(full);
    if (d == NULL && errno == ENOENT) {
        *ret_there = false;
        return WA_OK;
    }
    if (d == NULL || fstat(dirfd(d), st) != 0) {
        wa_status status = wa_error_errno(err, errno, "could not open directory \"%s\": %m", full);
        return status == WA_DENIED ? wa_error_hint(err, "Run walagent as the user of the server.")
                                   : status;
    }
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL && errno != 0)
            return wa_error_errno(err, errno, "could not read directory \"%s\": %m", full);
        if (e == NULL)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            wa_strv_add(names, e->d_name);
    }
    wa_strv_sort(names);
    *ret_there = true;
    return WA_OK;
}

static wa_status
walk(wa_local *l, const char *dir, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv names = {0};
    WA_CLEANUP(wa_freep) char *full = wa_path_join(l->options->data_dir, dir);
    struct stat st;
    bool there = false;
    WA_TRY(list(full, &names, &st, &there, err));
    if (!there)
        return WA_OK;
    if (dir[0] != '\0')
        WA_TRY(add_directory(l, dir, &st, err));
    for (size_t i = 0; i < names.count; i++)
        if (!is_left_out(dir, &names, names.items[i]))
            WA_TRY(visit(l, dir, names.items[i], err));
    return WA_OK;
}

wa_status
wa_local_walk(wa_local *l, wa_error *err)
{
    return walk(l, "", err);
}
