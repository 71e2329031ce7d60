/*
 * src/store/file_list.c - the file:// driver: listings in key order, and what dead writers left.
 *
 * The tree is walked one directory at a time; what cannot lie under the prefix or behind `after` is
 * not opened. Names of one directory are sorted with a '/' behind those of directories, so that the
 * walk meets keys in byte order ("a-b" comes before "a/b", which comes before "a0").
 */
#include "file_internal.h"

#include "walagent/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef struct walk {
    const wa_fs *fs;
    const wa_list_options *options;
    wa_list_fn fn;
    void *arg;
} walk;

/* `key` is "" or ends in '/'. */
static char *
directory_path(const wa_fs *fs, const char *key)
{
    char *path = wa_format("%s/%s", fs->root, key);
    path[strlen(path) - 1] = '\0';
    return path;
}

static wa_status
is_directory(const wa_fs *fs, int dir_fd, const struct dirent *entry, const char *dir, bool *ret,
             wa_error *err)
{
    *ret = entry->d_type == DT_DIR;
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK)
        return WA_OK;
    struct stat st;
    if (fstatat(dir_fd, entry->d_name, &st, 0) != 0) {
        *ret = false;
        return errno == ENOENT ? WA_OK : wa_fs_fail(fs, errno, "read directory", dir, err);
    }
    *ret = S_ISDIR(st.st_mode);
    return WA_OK;
}

typedef bool (*name_filter)(const char *name);

static bool
counts(const char *name)
{
    return wa_store_key_is_legal(name); /* no temporary file, no facts, no stranger */
}

static bool
counts_or_is_left_over(const char *name)
{
    return counts(name) || wa_str_starts(name, WA_FS_TMP_PREFIX) ||
           wa_str_ends(name, WA_FS_META_SUFFIX);
}

/* Sorted names, directories with a '/' behind. A directory that vanished is empty. */
static wa_status
read_names(const wa_fs *fs, const char *key, name_filter wanted, wa_strv *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = directory_path(fs, key);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        if (errno == ENOENT || errno == ENOTDIR)
            return wa_fs_check_root(fs, err);
        return wa_fs_fail(fs, errno, "open directory", path, err);
    }
    wa_status status = WA_OK;
    struct dirent *entry;
    while (status == WA_OK && (errno = 0, entry = readdir(dir)) != NULL) {
        if (!wanted(entry->d_name))
            continue;
        bool directory = false;
        status = is_directory(fs, dirfd(dir), entry, path, &directory, err);
        if (status == WA_OK)
            wa_strv_take(ret, wa_format("%s%s", entry->d_name, directory ? "/" : ""));
    }
    if (status == WA_OK && errno != 0)
        status = wa_fs_fail(fs, errno, "read directory", path, err);
    (void)closedir(dir);
    if (status == WA_OK)
        wa_strv_sort(ret);
    return status;
}

/* Does an object lie below? */
static wa_status
has_object(const wa_fs *fs, const char *key, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv names = {0};
    WA_TRY(read_names(fs, key, counts, &names, err));
    *ret = false;
    for (size_t i = 0; i < names.count && !*ret; i++) {
        if (!wa_str_ends(names.items[i], "/")) {
            *ret = true;
            return WA_OK;
        }
        WA_CLEANUP(wa_freep) char *below = wa_format("%s%s", key, names.items[i]);
        WA_TRY(has_object(fs, below, ret, err));
    }
    return WA_OK;
}

static wa_status
report_object(const walk *w, const char *key, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(w->fs, key);
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT)
            return WA_OK; /* removed in between */
        return wa_fs_fail(w->fs, errno, "access file", path, err);
    }
    if (!S_ISREG(st.st_mode))
        return WA_OK;
    wa_object object = {
        key, (uint64_t)st.st_size,
        wa_time_from_unix_us((int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000),
        NULL, NULL};
    return w->fn(w->arg, &object, err);
}

static wa_status
report_prefix(const walk *w, const char *key, wa_error *err)
{
    bool any = false;
    WA_TRY(has_object(w->fs, key, &any, err));
    wa_object object = {key, 0, WA_TIME_NONE, NULL, NULL};
    return any ? w->fn(w->arg, &object, err) : WA_OK;
}

static wa_status walk_directory(const walk *w, const char *dir, wa_error *err);

static wa_status
walk_entry(const walk *w, const char *key, wa_error *err)
{
    const char *prefix = w->options->prefix, *after = w->options->after;
    bool directory = wa_str_ends(key, "/");
    bool inside = wa_str_starts(key, prefix);
    if (!inside && !(directory && wa_str_starts(prefix, key)))
        return WA_OK;
    if (after != NULL && strncmp(key, after, strlen(key)) < 0)
        return WA_OK; /* the key, or everything below it, lies before */
    if (!directory)
        return report_object(w, key, err);
    /* "a/" itself lies under the prefix "a/", but one level means: what is below it. */
    if (w->options->delimited && inside && strlen(key) > strlen(prefix))
        return report_prefix(w, key, err);
    return walk_directory(w, key, err);
}

static wa_status
walk_directory(const walk *w, const char *dir, wa_error *err)
{
    WA_TRY(wa_cancel_check(w->fs->cancel, err));
    WA_CLEANUP(wa_strv_done) wa_strv names = {0};
    WA_TRY(read_names(w->fs, dir, counts, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        WA_CLEANUP(wa_freep) char *key = wa_format("%s%s", dir, names.items[i]);
        WA_TRY(walk_entry(w, key, err));
    }
    return WA_OK;
}

/* The deepest directory that holds everything under the prefix: "", or ending in '/'. */
static char *
directory_of_prefix(const char *prefix)
{
    const char *slash = strrchr(prefix, '/');
    return slash == NULL ? wa_strdup("") : wa_strndup(prefix, (size_t)(slash + 1 - prefix));
}

wa_status
wa_fs_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg, wa_error *err)
{
    walk w = {(const wa_fs *)store, options, fn, arg};
    WA_CLEANUP(wa_freep) char *dir = directory_of_prefix(options->prefix);
    WA_TRY(wa_fs_check_root(w.fs, err));
    WA_TRY(walk_directory(&w, dir, err));
    return wa_fs_check_root(w.fs, err);
}

/* ---- what dead writers left ---- */

typedef struct sweep {
    const wa_fs *fs;
    const char *prefix;
    wa_time before;
    size_t count;
} sweep;

static bool
is_old(const sweep *s, const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           wa_time_from_unix_us((int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000) <
               s->before;
}

/* `name` is ".tmp-<16 hex>-<component>". */
static wa_status
sweep_temporary(sweep *s, const char *dir, const char *name, wa_error *err)
{
    size_t skip = strlen(WA_FS_TMP_PREFIX) + WA_FS_TMP_RANDOM + 1;
    if (strlen(name) <= skip)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *key = wa_format("%s%s", dir, name + skip);
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/%s%s", s->fs->root, dir, name);
    if (!wa_str_starts(key, s->prefix) || !is_old(s, path))
        return WA_OK;
    if (unlink(path) == 0)
        s->count++;
    else if (errno != ENOENT)
        return wa_fs_fail(s->fs, errno, "remove file", path, err);
    return WA_OK;
}

/* Facts whose writer died before the object got its name. */
static wa_status
sweep_facts(sweep *s, const char *dir, const char *name, wa_error *err)
{
    size_t len = strlen(name) - strlen(WA_FS_META_SUFFIX);
    WA_CLEANUP(wa_freep) char *key = wa_format("%s%.*s", dir, (int)len, name);
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(s->fs, key);
    WA_CLEANUP(wa_freep) char *meta_path = wa_format("%s" WA_FS_META_SUFFIX, path);
    if (!wa_str_starts(key, s->prefix) || !is_old(s, meta_path) || wa_path_exists(path))
        return WA_OK;
    WA_CLEANUP(wa_closep) int lock = -1;
    WA_TRY(wa_fs_lock_facts(s->fs, key, &lock, err));
    if (lock >= 0 && is_old(s, meta_path) && !wa_path_exists(path) && unlink(meta_path) != 0 &&
        errno != ENOENT)
        return wa_fs_fail(s->fs, errno, "remove file", meta_path, err);
    return WA_OK;
}

static wa_status
sweep_directory(sweep *s, const char *dir, wa_error *err)
{
    WA_TRY(wa_cancel_check(s->fs->cancel, err));
    WA_CLEANUP(wa_strv_done) wa_strv names = {0};
    WA_TRY(read_names(s->fs, dir, counts_or_is_left_over, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.items[i];
        if (wa_str_ends(name, "/")) {
            WA_CLEANUP(wa_freep) char *below = wa_format("%s%s", dir, name);
            if (wa_str_starts(below, s->prefix) || wa_str_starts(s->prefix, below))
                WA_TRY(sweep_directory(s, below, err));
        } else if (wa_str_starts(name, WA_FS_TMP_PREFIX))
            WA_TRY(sweep_temporary(s, dir, name, err));
        else if (wa_str_ends(name, WA_FS_META_SUFFIX))
            WA_TRY(sweep_facts(s, dir, name, err));
    }
    return WA_OK;
}

wa_status
wa_fs_abort_uploads(wa_store *store, const char *prefix, wa_time before, size_t *ret_count,
                    wa_error *err)
{
    sweep s = {(const wa_fs *)store, prefix, before, 0};
    WA_TRY(wa_fs_check_root(s.fs, err));
    WA_CLEANUP(wa_freep) char *dir = directory_of_prefix(prefix);
    WA_TRY(sweep_directory(&s, dir, err));
    *ret_count = s.count;
    return WA_OK;
}
