/*
 * wal-dump - read WAL segment files with the WAL reader and print what they hold.
 *
 *   wal-dump records FILE...        one line a record, in pg_waldump's words
 *   wal-dump xacts FILE...          one line a transaction's end
 *   wal-dump blocks FILE...         one line a block reference
 *   wal-dump facts FILE...          the facts as JSON
 *   wal-dump check FILE...          is each segment complete, where does its WAL end
 *   wal-dump mutate SEED COUNT FILE how many random mutations pass unnoticed
 *   wal-dump speed ROUNDS FILE      read the file again and again, print bytes per CPU second
 *
 * Files follow one another in WAL order; the first one's page header tells where it begins.
 */
#include "walagent/base/bytes.h"
#include "walagent/base/file.h"
#include "walagent/pg/walfacts.h"
#include "walagent/pg/walreader.h"

#include "wal_mutate.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct segment {
    const uint8_t *data;
    size_t len;
} segment;

static void
die(const char *what)
{
    fprintf(stderr, "wal-dump: %s\n", what);
    exit(1);
}

static segment
map_file(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size < (off_t)WA_WAL_PAGE)
        die(path);
    segment s = {.len = (size_t)st.st_size};
    s.data = mmap(NULL, s.len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (s.data == MAP_FAILED)
        die(path);
    close(fd);
    return s;
}

static wa_status
print_record(void *arg, const wa_record *record, wa_error *err)
{
    const char *name = wa_rmgr_name(record->rmid);
    char custom[16];

    (void)arg;
    (void)err;
    snprintf(custom, sizeof custom, "custom%03u", record->rmid);
    printf("%s tot %" PRIu32 " tx %" PRIu32 " lsn %X/%08X prev %X/%08X\n",
           name != NULL ? name : custom, record->tot_len, record->xid,
           (uint32_t)(record->lsn >> 32), (uint32_t)record->lsn, (uint32_t)(record->prev >> 32),
           (uint32_t)record->prev);
    return WA_OK;
}

static wa_status
print_xact(void *arg, const wa_record *record, wa_error *err)
{
    wa_xact_end x;
    char lsn[WA_LSN_TEXT], time[WA_TIME_TEXT];

    (void)arg;
    (void)err;
    if (!wa_record_xact_end(record, &x))
        return WA_OK;
    printf("%s%s lsn %s xid %" PRIu32 " time %s dropped %" PRIu32, x.commit ? "COMMIT" : "ABORT",
           x.prepared ? "_PREPARED" : "", wa_lsn_format(record->lsn, lsn), x.xid,
           wa_time_format(x.time, time), x.dropped_count);
    for (uint32_t i = 0; i < x.dropped_count && i < WA_ARRAY_SIZE(x.dropped); i++)
        printf(" %" PRIu32 "/%" PRIu32 "/%" PRIu32, x.dropped[i].spc, x.dropped[i].db,
               x.dropped[i].rel);
    putchar('\n');
    return WA_OK;
}

static wa_status
print_blocks(void *arg, const wa_record *record, wa_error *err)
{
    wa_block_ref refs[33];
    char lsn[WA_LSN_TEXT];
    size_t count = wa_record_blocks(record, refs, WA_ARRAY_SIZE(refs));

    (void)arg;
    (void)err;
    for (size_t i = 0; i < count; i++)
        printf("lsn %s ref %u rel %" PRIu32 "/%" PRIu32 "/%" PRIu32 " fork %u blk %" PRIu32 "%s\n",
               wa_lsn_format(record->lsn, lsn), refs[i].id, refs[i].spc, refs[i].db, refs[i].rel,
               refs[i].fork, refs[i].block, refs[i].has_image ? " FPW" : "");
    return WA_OK;
}

static wa_status
add_facts(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static void
read_files(char **paths, int count, wa_record_fn fn, void *arg)
{
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = NULL;
    wa_wal_end end = WA_WAL_MORE;
    wa_error err = WA_ERROR_INIT;
    char lsn[WA_LSN_TEXT];

    for (int i = 0; i < count && end == WA_WAL_MORE; i++) {
        segment s = map_file(paths[i]);
        if (r == NULL) {
            r = wa_walreader_new(s.len);
            wa_walreader_start(r, wa_get_u64le(s.data + 8), 0);
        }
        if (wa_walreader_feed(r, s.data, s.len, fn, arg, &end, &err) != WA_OK)
            die(err.message);
    }
    if (r != NULL)
        fprintf(stderr, "%s at %s%s\n", end == WA_WAL_END ? "ends" : "read",
                wa_lsn_format(wa_walreader_end(r), lsn),
                wa_walreader_in_record(r) ? ", in a record" : "");
}

static void
print_facts(char **paths, int count)
{
    wa_wal_facts facts;
    wa_wal_facts_init(&facts);

    read_files(paths, count, add_facts, &facts);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_wal_facts_to_json(&facts);
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 2);
    puts(text);
}

static void
check_files(char **paths, int count)
{
    for (int i = 0; i < count; i++) {
        segment s = map_file(paths[i]);
        wa_segment_check check;
        wa_error err = WA_ERROR_INIT;
        char end[WA_LSN_TEXT], first[WA_LSN_TEXT], last[WA_LSN_TEXT];
        if (wa_segment_check_all(s.data, s.len, wa_get_u64le(s.data + 8), NULL, NULL, &check,
                                 &err) != WA_OK)
            printf("broken %s\n", err.message);
        else
            printf("%s %s valid_end %s first %s last %s tli %" PRIu32 " system %" PRIu64 "\n",
                   check.complete ? "complete" : "incomplete", check.parsed ? "parsed" : "unparsed",
                   wa_lsn_format(check.valid_end, end), wa_lsn_format(check.first_record, first),
                   wa_lsn_format(check.last_record, last), check.page_tli, check.system_identifier);
    }
}

/* Of this process alone: the machine may be busy with other things. */
static double
cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
measure(const char *rounds, char *path)
{
    wa_wal_facts facts;
    segment s = map_file(path);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(s.len);
    wa_error err = WA_ERROR_INIT;
    unsigned long n = strtoul(rounds, NULL, 10);
    double begin = 0;

    for (unsigned long i = 0; i <= n; i++) { /* the first one fills the caches */
        if (i == 1)
            begin = cpu_seconds();
        wa_wal_facts_init(&facts);
        wa_walreader_start(r, wa_get_u64le(s.data + 8), 0);
        if (wa_walreader_feed(r, s.data, s.len, add_facts, &facts, NULL, &err) != WA_OK)
            die(err.message);
    }
    double seconds = cpu_seconds() - begin;
    double bytes = (double)(wa_walreader_end(r) - wa_get_u64le(s.data + 8));
    printf("%.2f GB/s, %.1f million records/s, %.0f bytes a record\n",
           bytes * (double)n / seconds / 1e9, (double)facts.records * (double)n / seconds / 1e6,
           bytes / (double)facts.records);
}

static int
mutate(const char *seed, const char *count, char *path)
{
    segment s = map_file(path);
    size_t unnoticed =
        wal_mutate_unnoticed(s.data, s.len, wa_get_u64le(s.data + 8),
                             (unsigned)strtoul(seed, NULL, 10), strtoul(count, NULL, 10));

    printf("%zu unnoticed\n", unnoticed);
    return unnoticed == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";

    if (strcmp(verb, "records") == 0)
        read_files(argv + 2, argc - 2, print_record, NULL);
    else if (strcmp(verb, "xacts") == 0)
        read_files(argv + 2, argc - 2, print_xact, NULL);
    else if (strcmp(verb, "blocks") == 0)
        read_files(argv + 2, argc - 2, print_blocks, NULL);
    else if (strcmp(verb, "facts") == 0)
        print_facts(argv + 2, argc - 2);
    else if (strcmp(verb, "check") == 0)
        check_files(argv + 2, argc - 2);
    else if (strcmp(verb, "mutate") == 0 && argc == 5)
        return mutate(argv[2], argv[3], argv[4]);
    else if (strcmp(verb, "speed") == 0 && argc == 4)
        measure(argv[2], argv[3]);
    else
        die("usage: wal-dump records|xacts|blocks|facts|check FILE..., mutate SEED COUNT FILE, "
            "speed ROUNDS FILE");
    return 0;
}
