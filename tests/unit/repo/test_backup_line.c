/*
 * test_backup_line.c - lines of files.zst: what is written and read without the JSON library is
 * what the library writes and reads.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/codec/json.h"

#define ROUNDS 20000

static wa_status
describe(void *arg, const wa_backup_file *f, wa_error *err)
{
    (void)err;
    wa_buf_printf(arg, "%s|%c|%llu|%llu|%o|%u|%lld|%s", f->path, f->type,
                  (unsigned long long)f->size, (unsigned long long)f->offset, f->mode, f->pack,
                  (long long)f->mtime, f->link != NULL ? f->link : "-");
    return WA_OK;
}

/* Lengths at which numbers and names change their kind, and any. */
static uint64_t
any_number(uint64_t *seed)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     9,
                                     10,
                                     UINT32_MAX,
                                     UINT64_C(999999999999999),
                                     UINT64_C(1000000000000000),
                                     UINT64_C(9007199254740992),
                                     UINT64_C(9007199254740993),
                                     INT64_MAX};
    return next_random(seed) % 2 == 0 ? edges[next_random(seed) % WA_ARRAY_SIZE(edges)]
                                      : next_random(seed) >> next_random(seed) % 31;
}

static void
any_file(uint64_t *seed, char *path, size_t room, wa_backup_file *ret)
{
    static const char letters[] = "abc019_./- ~\"\\\x7f\x01\xff\xc3\xa4";
    size_t len = 1 + next_random(seed) % (next_random(seed) % 50 == 0 ? room - 2 : 20);
    bool odd = next_random(seed) % 3 == 0;
    for (size_t i = 0; i < len; i++)
        path[i] = letters[next_random(seed) % (odd ? sizeof letters - 1 : 7)];
    path[len] = '\0';
    *ret = (wa_backup_file){.path = path,
                            .type = "fffdl"[next_random(seed) % 5],
                            .size = any_number(seed),
                            .offset = any_number(seed),
                            .mode = (uint32_t)(next_random(seed) & 07777),
                            .pack = (uint32_t)any_number(seed),
                            .mtime = (int64_t)any_number(seed),
                            .link = "/srv/x"};
    if (next_random(seed) % 9 == 0)
        ret->mtime = -ret->mtime;
}

/* As the library writes it. */
static char *
expected_line(const wa_backup_file *f)
{
    const char type[2] = {f->type, '\0'};
    json_t *json = json_object(), *path = json_string(f->path);
    WA_CLEANUP(wa_freep) char *hex = wa_malloc(2 * strlen(f->path) + 1);
    if (path != NULL)
        wa_json_set(json, "p", path);
    else
        wa_json_set_string(json, "x", wa_hex(f->path, strlen(f->path), hex));
    wa_json_set_string(json, "t", type);
    wa_json_set_i64(json, "m", f->mode);
    wa_json_set_i64(json, "c", f->mtime);
    if (f->type == 'f') {
        wa_json_set_u64(json, "s", f->size);
        wa_json_set_i64(json, "k", f->pack);
        wa_json_set_u64(json, "o", f->offset);
    } else if (f->type == 'l') {
        wa_json_set_string(json, "l", f->link);
    }
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 0);
    json_decref(json);
    return wa_format("%s\n", text);
}

static void
every_line_is_written_as_the_library_writes_it(void **state)
{
    (void)state;
    char path[3 * WA_PLAIN_PATH];
    size_t plain = 0;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t seed = round;
        wa_backup_file f, again;
        any_file(&seed, path, sizeof path, &f);
        wa_buf line = WA_BUF_INIT(1 << 20);
        wa_backup_file_line(&f, &line);
        WA_CLEANUP(wa_freep) char *expected = expected_line(&f);
        if (strcmp(wa_buf_str(&line), expected) != 0)
            fail_msg("seed %llu: %s instead of %s", (unsigned long long)round, wa_buf_str(&line),
                     expected);
        char copy[WA_PLAIN_PATH];
        plain += wa_backup_file_plain(line.data, line.len - 1, copy, &again);
        wa_buf_done(&line);
    }
    assert_in_range(plain, ROUNDS / 10, ROUNDS); /* it is about these */
}

/* What comes of a line; " " before it: of the library alone. */
static wa_status
outcome(const char *before, const wa_buf *line, wa_buf *ret)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *text = wa_format("%s%s", before, wa_buf_str(line));
    return wa_backup_file_parse(text, strlen(text), "line", describe, ret, &err);
}

static void
spoil(uint64_t *seed, wa_buf *line)
{
    static const char letters[] = "0123456789{}\",:.-+e ptmcskolx/\\\xff";
    size_t at = next_random(seed) % line->len;
    switch (next_random(seed) % 3) {
    case 0:
        line->data[at] = letters[next_random(seed) % (sizeof letters - 1)];
        break;
    case 1:
        memmove(line->data + at, line->data + at + 1, line->len - at);
        line->len--;
        break;
    default: /* twice */
        wa_buf_putc(line, ' ');
        memmove(line->data + at + 1, line->data + at, line->len - at - 1);
    }
}

static void
both_readers_accept_the_same_lines_and_understand_them_alike(void **state)
{
    (void)state;
    char path[64];
    size_t accepted = 0, refused = 0;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t seed = round;
        wa_backup_file f;
        any_file(&seed, path, sizeof path, &f);
        wa_buf line = WA_BUF_INIT(1 << 20), fast = WA_BUF_INIT(1 << 20),
               slow = WA_BUF_INIT(1 << 20);
        wa_backup_file_line(&f, &line);
        line.data[--line.len] = '\0';
        for (uint64_t i = next_random(&seed) % 3; i > 0; i--)
            spoil(&seed, &line);
        wa_status a = outcome("", &line, &fast), b = outcome(" ", &line, &slow);
        if (a != b || strcmp(wa_buf_str(&fast), wa_buf_str(&slow)) != 0)
            fail_msg("seed %llu: of %s one makes %d %s and the other %d %s",
                     (unsigned long long)round, wa_buf_str(&line), (int)a, wa_buf_str(&fast),
                     (int)b, wa_buf_str(&slow));
        accepted += a == WA_OK;
        refused += a == WA_CORRUPT;
        wa_buf_done(&line);
        wa_buf_done(&fast);
        wa_buf_done(&slow);
    }
    assert_in_range(accepted, ROUNDS / 10, ROUNDS);
    assert_in_range(refused, ROUNDS / 10, ROUNDS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_is_written_as_the_library_writes_it),
        cmocka_unit_test(both_readers_accept_the_same_lines_and_understand_them_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
