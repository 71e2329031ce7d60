/*
 * restore/layout.c - where a restore writes: the data directory and the tablespaces' directories,
 * whether they may be used, whether there is room.
 */
#include "restore_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/log.h"
#include "walagent/pg/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096u
#define RESERVE (16u * 1024 * 1024) /* settings, the manifest, directories */

void
wa_layout_done(wa_layout *l)
{
    for (size_t i = 0; i < l->count; i++) {
        wa_freep(&l->places[i].path);
        wa_closep(&l->places[i].fd);
    }
    if (l->wal.path != NULL)
        wa_closep(&l->wal.fd);
    wa_freep(&l->wal.path);
    wa_freep(&l->places);
    wa_freep(&l->root);
    *l = (wa_layout){0};
}

static void
add_place(wa_layout *l, uint32_t oid, char *path, bool in_place)
{
    l->places = wa_reallocarray(l->places, l->count + 1, sizeof *l->places);
    l->places[l->count++] = (wa_place){.oid = oid, .path = path, .in_place = in_place, .fd = -1};
}

wa_place *
wa_layout_place_of(const wa_layout *l, const char *path)
{
    if (wa_str_starts(path, "pg_tblspc/")) {
        unsigned long oid = strtoul(path + strlen("pg_tblspc/"), NULL, 10);
        for (size_t i = 1; i < l->count; i++)
            if (l->places[i].oid == oid)
                return &l->places[i];
    }
    return &l->places[0];
}

/* ---- what is asked for ---- */

static wa_status
absolute(const char *directory, char **ret, wa_error *err)
{
    if (directory[0] == '/') {
        *ret = wa_strdup(directory);
    } else {
        char here[PATH_MAX];
        if (getcwd(here, sizeof here) == NULL)
            return wa_error_errno(err, errno, "could not get the working directory: %m");
        *ret = wa_path_join(here, directory);
    }
    for (size_t n = strlen(*ret); n > 1 && (*ret)[n - 1] == '/'; n--)
        (*ret)[n - 1] = '\0';
    return WA_OK;
}

/* NEW of the "OLD=NEW" for this location; "\=" stands for an equals sign in a path. */
static wa_status
mapped(const wa_strv *map, const char *location, bool *used, char **ret, wa_error *err)
{
    *ret = wa_strdup(location);
    for (size_t i = 0; map != NULL && i < map->count; i++) {
        const char *equals = strchr(map->items[i], '=');
        WA_ASSERT(equals != NULL);
        size_t len = (size_t)(equals - map->items[i]);
        if (strlen(location) != len || strncmp(location, map->items[i], len) != 0)
            continue;
        used[i] = true;
        wa_freep(ret);
        if (equals[1] != '/')
            return wa_error_set(err, WA_INVALID,
                                "the new directory of a tablespace must be absolute: \"%s\"",
                                equals + 1);
        return absolute(equals + 1, ret, err);
    }
    return WA_OK;
}

static wa_status
unused_mapping(const wa_restore_plan *plan, const char *entry, wa_error *err)
{
    wa_error_set(err, WA_INVALID, "the backup has no tablespace in the directory of \"%s\"", entry);
    char list[WA_ERROR_HINT_SIZE / 2] = "";
    size_t used = 0;
    for (size_t i = 0; i < plan->backup->tablespace_count && used < sizeof list - 1; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "",
                                 plan->backup->tablespaces[i].location);
    if (list[0] == '\0')
        return wa_error_hint(err, "This backup has no tablespaces.");
    return wa_error_hint(err, "Its tablespaces are in: %s", list);
}

static wa_status
add_tablespaces(const wa_restore_options *o, const wa_restore_plan *plan, wa_layout *l,
                wa_error *err)
{
    size_t maps = o->tablespace_map != NULL ? o->tablespace_map->count : 0;
    WA_CLEANUP(wa_freep) bool *used = wa_calloc(maps + 1, sizeof *used);
    for (size_t i = 0; i < plan->backup->tablespace_count; i++) {
        const wa_backup_tablespace *t = &plan->backup->tablespaces[i];
        if (wa_str_empty(t->location) || t->location[0] != '/') { /* allow_in_place_tablespaces */
            add_place(l, t->oid, wa_format("%s/pg_tblspc/%u", l->root, t->oid), true);
            continue;
        }
        char *path = NULL;
        WA_TRY(mapped(o->tablespace_map, t->location, used, &path, err));
        for (size_t k = 0; k < l->count; k++)
            if (strcmp(l->places[k].path, path) == 0) {
                wa_error_set(err, WA_INVALID, "two directories of the copy would be \"%s\"", path);
                wa_freep(&path);
                return err->status;
            }
        add_place(l, t->oid, path, false);
    }
    for (size_t i = 0; i < maps; i++)
        if (!used[i])
            return unused_mapping(plan, o->tablespace_map->items[i], err);
    return WA_OK;
}

/* ---- may they be used? ---- */

static wa_status
check_is_directory(const char *path, bool *ret_there, wa_error *err)
{
    struct stat st;
    *ret_there = false;
    if (stat(path, &st) != 0) {
        if (errno == ENOTDIR) {
            wa_error_set(err, WA_INVALID, "\"%s\" is below something that is no directory", path);
            return wa_error_hint(err, "Choose a directory that is empty or absent.");
        }
        if (errno != ENOENT)
            return wa_error_errno(err, errno, "could not look at \"%s\": %m", path);
        if (lstat(path, &st) == 0)
            return wa_error_set(err, WA_INVALID, "\"%s\" is a symbolic link to nothing", path);
        return WA_OK;
    }
    if (!S_ISDIR(st.st_mode)) {
        wa_error_set(err, WA_INVALID, "\"%s\" exists and is no directory", path);
        return wa_error_hint(err, "Choose a directory that is empty or absent.");
    }
    *ret_there = true;
    return WA_OK;
}

/* --delta removes what doesn't belong: only in a directory that is a data directory, or one that
 * an interrupted restore began. */
static wa_status
check_delta(const wa_restore_options *o, const char *root, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *version = wa_path_join(root, "PG_VERSION");
    WA_CLEANUP(wa_freep) char *manifest = wa_path_join(root, "backup_manifest");
    if (!wa_path_exists(version) && !wa_path_exists(manifest)) {
        wa_error_set(err, WA_INVALID, "directory \"%s\" is not empty and no data directory", root);
        return wa_error_hint(err, "--delta removes what doesn't belong to the backup: choose an "
                                  "empty directory, or a data directory.");
    }
    wa_control control;
    wa_error ignored = WA_ERROR_INIT;
    uint64_t ours = wa_repo_cluster(o->repo)->system_identifier;
    if (wa_control_read(root, &control, &ignored) == WA_OK && control.system_identifier != ours) {
        wa_error_set(err, WA_INVALID,
                     "directory \"%s\" belongs to another cluster (system identifier %llu, the "
                     "backup's is %llu)",
                     root, (unsigned long long)control.system_identifier, (unsigned long long)ours);
        return wa_error_hint(err, "Choose an empty directory.");
    }
    return WA_OK;
}

static wa_status
check_root(const wa_restore_options *o, const wa_layout *l, wa_error *err)
{
    bool there = false;
    long pid = 0;
    WA_TRY(check_is_directory(l->root, &there, err));
    if (!there)
        return WA_OK;
    if (wa_data_dir_is_running(l->root, &pid)) {
        wa_error_set(err, WA_INVALID, "a server is running in directory \"%s\" (process %ld)",
                     l->root, pid);
        return wa_error_hint(err, "Stop it first, or restore into another directory.");
    }
    if (wa_dir_is_empty(l->root))
        return WA_OK;
    if (o->delta)
        return check_delta(o, l->root, err);
    wa_error_set(err, WA_INVALID, "directory \"%s\" is not empty", l->root);
    return wa_error_hint(err, "Choose an empty or absent directory; --delta completes an "
                              "interrupted restore or brings an old data directory up to date.");
}

/* A tablespace's directory that isn't empty may be a live server's: it is used again only when this
 * data directory's own link already leads there. */
static wa_status
check_tablespace(const wa_restore_options *o, const wa_layout *l, const wa_place *place,
                 wa_error *err)
{
    bool there = false;
    WA_TRY(check_is_directory(place->path, &there, err));
    if (!there || wa_dir_is_empty(place->path))
        return WA_OK;
    char leads_to[PATH_MAX];
    WA_CLEANUP(wa_freep) char *link = wa_format("%s/pg_tblspc/%u", l->root, place->oid);
    ssize_t len = readlink(link, leads_to, sizeof leads_to - 1);
    if (o->delta && len > 0 && strlen(place->path) == (size_t)len &&
        strncmp(leads_to, place->path, (size_t)len) == 0)
        return WA_OK;
    wa_error_set(err, WA_INVALID, "directory \"%s\" of tablespace %u is not empty", place->path,
                 place->oid);
    return wa_error_hint(err, "Put it elsewhere: --tablespace-map %s=DIRECTORY, or empty it.",
                         place->path);
}

/* ---- is there room? ---- */

typedef struct scan {
    wa_layout *l;
    bool delta, group;
} scan;

static wa_status
scan_file(void *arg, const wa_backup_file *f, wa_error *err)
{
    scan *s = arg;
    (void)err;
    if (f->type == 'd' && strcmp(f->path, "global") == 0)
        s->group = (f->mode & 050) == 050;
    if (f->type != 'f')
        return WA_OK;
    wa_place *place = wa_layout_place_of(s->l, f->path);
    place->needed += (f->size + BLOCK - 1) / BLOCK * BLOCK;
    s->l->files++;
    s->l->bytes += f->size;
    struct stat st;
    WA_CLEANUP(wa_freep) char *path = s->delta ? wa_path_join(s->l->root, f->path) : NULL;
    if (s->delta && lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        place->there += (uint64_t)st.st_blocks * 512;
    return WA_OK;
}

/* The nearest directory of the path that exists. */
static char *
existing(const char *path)
{
    char *p = wa_strdup(path);
    while (strlen(p) > 1 && !wa_path_exists(p)) {
        char *up = wa_path_dir(p);
        wa_freep(&p);
        p = up;
    }
    return p;
}

static wa_status
check_room(const wa_layout *l, wa_error *err)
{
    for (size_t i = 0; i < l->count; i++) {
        WA_CLEANUP(wa_freep) char *at = existing(l->places[i].path);
        struct stat st, other;
        if (stat(at, &st) != 0)
            return wa_error_errno(err, errno, "could not look at \"%s\": %m", at);
        uint64_t needed = RESERVE, there = 0;
        for (size_t k = 0; k < l->count; k++) {
            WA_CLEANUP(wa_freep) char *beside = existing(l->places[k].path);
            if (stat(beside, &other) != 0 || other.st_dev != st.st_dev)
                continue;
            needed += l->places[k].needed;
            there += l->places[k].there;
        }
        uint64_t free_bytes = wa_disk_free(at);
        if (free_bytes == UINT64_MAX || free_bytes + there >= needed)
            continue;
        char want[WA_SIZE_TEXT], have[WA_SIZE_TEXT];
        wa_error_set(err, WA_NO_SPACE,
                     "the file system of \"%s\" has no room: %s are needed, %s "
                     "are free",
                     l->places[i].path, wa_format_size(needed - there, want),
                     wa_format_size(free_bytes, have));
        return wa_error_hint(err, "Nothing was written. Free space, or restore elsewhere.");
    }
    return WA_OK;
}

wa_status
wa_layout_check(const wa_restore_options *o, const wa_restore_plan *plan, wa_layout *ret,
                wa_error *err)
{
    WA_CLEANUP(wa_layout_done) wa_layout l = {0};
    WA_TRY(absolute(o->directory, &l.root, err));
    add_place(&l, 0, wa_strdup(l.root), false);
    WA_TRY(add_tablespaces(o, plan, &l, err));
    WA_TRY(check_root(o, &l, err));
    for (size_t i = 1; i < l.count; i++)
        if (!l.places[i].in_place)
            WA_TRY(check_tablespace(o, &l, &l.places[i], err));
    scan s = {.l = &l, .delta = o->delta};
    WA_TRY(wa_backup_files(o->repo, plan->backup->label, scan_file, &s, err));
    l.dir_mode = s.group ? 0750 : 0700;
    /* How large the files of an incremental backup become is known from the full one, about. */
    if (plan->chain_count > 1 && l.places[0].needed < plan->chain[0]->raw_bytes)
        l.places[0].needed = plan->chain[0]->raw_bytes;
    WA_TRY(check_room(&l, err));
    *ret = l;
    l = (wa_layout){0};
    return WA_OK;
}

/* ---- making them ---- */

static wa_status
make_directory(const char *path, mode_t mode, wa_error *err)
{
    WA_TRY(wa_mkdir_p(path, mode, err));
    if (chmod(path, mode) != 0)
        return wa_error_errno(err, errno, "could not set the mode of \"%s\": %m", path);
    return WA_OK;
}

static wa_status
make_link(const wa_layout *l, const wa_place *place, wa_error *err)
{
    char leads_to[PATH_MAX];
    WA_CLEANUP(wa_freep) char *link = wa_format("%s/pg_tblspc/%u", l->root, place->oid);
    ssize_t len = readlink(link, leads_to, sizeof leads_to - 1);
    if (len >= 0) {
        leads_to[len] = '\0';
        if (strcmp(leads_to, place->path) == 0)
            return WA_OK;
        if (unlink(link) != 0)
            return wa_error_errno(err, errno, "could not remove link \"%s\": %m", link);
    } else {
        WA_TRY(wa_remove_tree(link, err)); /* a directory where a link belongs */
    }
    if (symlink(place->path, link) != 0)
        return wa_error_errno(err, errno, "could not create link \"%s\": %m", link);
    return WA_OK;
}

static wa_status
open_for_sync(wa_place *place, wa_error *err)
{
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", place->path);
    return WA_OK;
}

/* A data directory may have its WAL elsewhere, behind a link or a mount: what --delta removed there
 * must not come back after a crash. */
static wa_status
open_wal_for_sync(wa_layout *l, wa_error *err)
{
    struct stat root, st;
    WA_CLEANUP(wa_freep) char *path = wa_path_join(l->root, "pg_wal");
    if (fstat(l->places[0].fd, &root) != 0)
        return wa_error_errno(err, errno, "could not look at \"%s\": %m", l->root);
    if (stat(path, &st) != 0) {
        if (errno == ENOENT) /* it will be made, or its link fails there with a reason */
            return WA_OK;
        return wa_error_errno(err, errno, "could not look at \"%s\": %m", path);
    }
    if (st.st_dev == root.st_dev || !S_ISDIR(st.st_mode))
        return WA_OK;
    wa_place wal = {.path = path, .fd = -1};
    WA_TRY(open_for_sync(&wal, err));
    l->wal = wal;
    path = NULL;
    return WA_OK;
}

wa_status
wa_layout_create(wa_layout *l, wa_error *err)
{
    WA_TRY(make_directory(l->root, l->dir_mode, err));
    WA_CLEANUP(wa_freep) char *links = wa_path_join(l->root, "pg_tblspc");
    WA_TRY(make_directory(links, l->dir_mode, err));
    WA_TRY(open_for_sync(&l->places[0], err));
    for (size_t i = 1; i < l->count; i++) {
        WA_TRY(make_directory(l->places[i].path, l->dir_mode, err));
        WA_TRY(open_for_sync(&l->places[i], err));
        if (!l->places[i].in_place)
            WA_TRY(make_link(l, &l->places[i], err));
    }
    return open_wal_for_sync(l, err);
}

typedef struct synced {
    dev_t items[64];
    size_t count;
} synced;

static wa_status
sync_place(const wa_place *place, synced *done, wa_error *err)
{
    struct stat st;
    if (fstat(place->fd, &st) != 0)
        return wa_error_errno(err, errno, "could not look at \"%s\": %m", place->path);
    for (size_t k = 0; k < done->count; k++)
        if (done->items[k] == st.st_dev)
            return WA_OK;
    if (syncfs(place->fd) != 0)
        return wa_error_errno(err, errno, "could not make \"%s\" durable: %m", place->path);
    if (done->count < WA_ARRAY_SIZE(done->items))
        done->items[done->count++] = st.st_dev;
    return WA_OK;
}

/* One syncfs a file system, not an fsync a file: the descriptors were opened before the first
 * write, so a write-back error since then is reported here (Linux 5.8 and later). */
wa_status
wa_layout_sync(const wa_layout *l, wa_error *err)
{
    synced done = {.count = 0};
    for (size_t i = 0; i < l->count; i++)
        WA_TRY(sync_place(&l->places[i], &done, err));
    return l->wal.path == NULL ? WA_OK : sync_place(&l->wal, &done, err);
}
