/*
 * tests/unit/store/store_contract.c - every promise of walagent/store/store.h against a real store.
 *
 *     store-contract URL          mem://, file:///DIR, s3://BUCKET/PREFIX; fault+URL wraps it,
 * mirror+URL puts a mirror in memory beside it
 *
 * s3 options come from the environment: WALAGENT_REPOSITORY_S3_ENDPOINT, _REGION, _ADDRESSING,
 * _ACCESS_KEY_ID, _SECRET_ACCESS_KEY, _SESSION_TOKEN, _CA_FILE, _VERIFY_TLS (off). Every case works
 * under a fresh random prefix and cleans up behind itself. The last line is "N passed, N failed".
 */
#include "walagent/base/buf.h"
#include "walagent/base/thread.h"
#include "walagent/base/time.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"
#include "walagent/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PART (5u * 1024 * 1024) /* S3's least */
#define WRITERS 8

static wa_store *store;
static char prefix[64];   /* of the running case, ends in '/' */
static unsigned failures; /* in the running case */

/* ---- a little frame ---- */

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("  %s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                          \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)
/* The call gives this status; its message is shown when not. */
#define EXPECT(wanted, call)                                                                       \
    do {                                                                                           \
        wa_error err = WA_ERROR_INIT;                                                              \
        wa_status got_ = (call);                                                                   \
        if (got_ != (wanted)) {                                                                    \
            printf("  %s:%d: %s: got \"%s\" (%s), expected \"%s\"\n", __FILE__, __LINE__, #call,   \
                   wa_status_name(got_), err.message, wa_status_name(wanted));                     \
            failures++;                                                                            \
        }                                                                                          \
        if (got_ != WA_OK && got_ == (wanted) && err.message[0] == '\0') {                         \
            printf("  %s:%d: %s: no message\n", __FILE__, __LINE__, #call);                        \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static char key_text[8][1024];

/* prefix + name; valid for the next seven calls. */
static const char *
key(const char *name)
{
    static unsigned next;
    char *out = key_text[next++ % 8];
    (void)snprintf(out, sizeof key_text[0], "%s%s", prefix, name);
    return out;
}

static wa_body
text(const char *s)
{
    return (wa_body){s, strlen(s), -1, 0};
}

static wa_status
put(const char *name, const char *content, const char *meta, wa_put_mode mode, wa_error *err)
{
    wa_body body = text(content);
    return wa_store_put(store, key(name), &body, meta, mode, err);
}

static void
expect_content(const char *name, const char *content, const char *meta)
{
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1 << 20);
    WA_CLEANUP(wa_freep) char *facts = NULL;
    EXPECT(WA_OK, wa_store_get(store, key(name), 0, UINT64_MAX, &got, &facts, &err));
    CHECK(wa_str_eq(wa_buf_str(&got), content));
    CHECK(wa_str_eq(facts, meta));
}

static void
expect_missing(const char *name)
{
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1 << 20);
    EXPECT(WA_NOT_FOUND, wa_store_get(store, key(name), 0, UINT64_MAX, &got, NULL, &err));
    EXPECT(WA_NOT_FOUND, wa_store_head(store, key(name), NULL, NULL, NULL, &err));
    CHECK(got.len == 0);
}

/* Listings as one string: keys without the prefix, with a space behind each. */
typedef struct listing {
    wa_buf text;
    size_t count, stop_after;
    uint64_t bytes;
} listing;

static wa_status
add_to_listing(void *arg, const wa_object *object, wa_error *err)
{
    listing *l = arg;
    wa_buf_printf(&l->text, "%s ", object->key + strlen(prefix));
    l->count++;
    l->bytes += object->size;
    (void)err;
    return l->count == l->stop_after ? WA_CANCELLED : WA_OK;
}

static void
expect_listing(const char *under, bool delimited, const char *after, size_t page,
               const char *expected)
{
    listing l = {WA_BUF_INIT(1 << 20), 0, 0, 0};
    wa_list_options options = {key(under), delimited, after ? key(after) : NULL, page};
    EXPECT(WA_OK, wa_store_list(store, &options, add_to_listing, &l, &err));
    if (!wa_str_eq(wa_buf_str(&l.text), expected)) {
        printf("  listing of \"%s\"%s%s%s: got \"%s\", expected \"%s\"\n", under,
               delimited ? " delimited" : "", after ? " after " : "", after ? after : "",
               wa_buf_str(&l.text), expected);
        failures++;
    }
    wa_buf_done(&l.text);
}

static wa_status
collect(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

static void
remove_all(void)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_list_options options = {prefix, false, NULL, 0};
    EXPECT(WA_OK, wa_store_list(store, &options, collect, &keys, &err));
    EXPECT(WA_OK, wa_store_delete(store, &keys, &err));
    EXPECT(WA_OK, wa_store_abort_uploads(store, prefix, wa_time_now() + 60000000, NULL, &err));
}

static char *
pattern(size_t len, unsigned seed)
{
    char *out = wa_malloc(len + 1);
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out[i] = (char)x;
    }
    return out;
}

/* ---- cases ---- */

static void
put_then_get_returns_bytes_and_facts(void)
{
    EXPECT(WA_OK, put("dir/sub/one", "hello", "{\"v\":1}", WA_PUT_CREATE, &err));
    expect_content("dir/sub/one", "hello", "{\"v\":1}");
    EXPECT(WA_OK, put("two", "without facts", NULL, WA_PUT_CREATE, &err));
    expect_content("two", "without facts", "");
}

static void
put_refuses_to_overwrite(void)
{
    EXPECT(WA_OK, put("a", "first", "{\"n\":1}", WA_PUT_CREATE, &err));
    EXPECT(WA_EXISTS, put("a", "second", "{\"n\":2}", WA_PUT_CREATE, &err));
    EXPECT(WA_EXISTS, put("a", "third", NULL, WA_PUT_CREATE, &err));
    expect_content("a", "first", "{\"n\":1}");
    EXPECT(WA_OK, put("b", "first", NULL, WA_PUT_CREATE, &err));
    EXPECT(WA_EXISTS, put("b", "second", "{\"n\":2}", WA_PUT_CREATE, &err));
    expect_content("b", "first", "");
}

static void
put_replaces_bytes_and_facts_when_asked(void)
{
    EXPECT(WA_OK, put("a", "first", "{\"n\":1}", WA_PUT_REPLACE, &err));
    EXPECT(WA_OK, put("a", "second one", "{\"n\":2}", WA_PUT_REPLACE, &err));
    expect_content("a", "second one", "{\"n\":2}");
    EXPECT(WA_OK, put("a", "third", NULL, WA_PUT_REPLACE, &err));
    expect_content("a", "third", "");
}

static void
put_sends_a_range_of_a_file(void)
{
    FILE *f = tmpfile();
    CHECK(f != NULL);
    if (f == NULL)
        return;
    WA_CLEANUP(wa_freep) char *data = pattern(700000, 1);
    CHECK(fwrite(data, 1, 700000, f) == 700000 && fflush(f) == 0);
    wa_body body = {NULL, 600000, fileno(f), 12345};
    EXPECT(WA_OK, wa_store_put(store, key("f"), &body, NULL, WA_PUT_CREATE, &err));
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1 << 20);
    EXPECT(WA_OK, wa_store_get(store, key("f"), 0, UINT64_MAX, &got, NULL, &err));
    CHECK(got.len == 600000 && memcmp(got.data, data + 12345, 600000) == 0);
    (void)fclose(f);
}

static void
missing_objects_are_not_found(void)
{
    expect_missing("nothing");
    expect_missing("no/such/directory");
    EXPECT(WA_OK, put("dir/a", "x", NULL, WA_PUT_CREATE, &err));
    expect_missing("dir");
    expect_missing("dir/b");
}

static void
illegal_keys_are_invalid(void)
{
    static const char *const bad[] = {"",       "/a",  "a/",   "a//b",     "..",
                                      "a/../b", "a b", "a\nb", "a%b",      "a.meta",
                                      ".tmp",   "a/.", "a\\b", "\xc3\xa4", "a.meta/b"};
    wa_body body = text("x");
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        EXPECT(WA_INVALID, wa_store_put(store, bad[i], &body, NULL, WA_PUT_CREATE, &err));
        EXPECT(WA_INVALID, wa_store_get(store, bad[i], 0, 1, &got, NULL, &err));
        EXPECT(WA_INVALID, wa_store_head(store, bad[i], NULL, NULL, NULL, &err));
    }
    char longest[902];
    memset(longest, 'x', sizeof longest);
    longest[901] = '\0';
    EXPECT(WA_INVALID, wa_store_put(store, longest, &body, NULL, WA_PUT_CREATE, &err));
}

static void
odd_but_legal_keys_work(void)
{
    static const char *const odd[] = {"a=b", "A.B_c-d", "x..y", "=", "-", "_/=/-"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(odd); i++) {
        EXPECT(WA_OK, put(odd[i], odd[i], "{}", WA_PUT_CREATE, &err));
        expect_content(odd[i], odd[i], "{}");
    }
}

static void
facts_of_every_size_come_back(void)
{
    static const size_t sizes[] = {2, 254, 255, 256, 511, 1023, 1024};
    for (size_t i = 0; i < WA_ARRAY_SIZE(sizes); i++) {
        char meta[1025], name[16];
        memset(meta, 'a' + (int)i, sizes[i]);
        memcpy(meta, "{\"", 2);
        meta[sizes[i]] = '\0';
        (void)snprintf(name, sizeof name, "m%zu", i);
        EXPECT(WA_OK, put(name, "x", meta, WA_PUT_CREATE, &err));
        expect_content(name, "x", meta);
        WA_CLEANUP(wa_freep) char *head_meta = NULL;
        EXPECT(WA_OK, wa_store_head(store, key(name), NULL, NULL, &head_meta, &err));
        CHECK(wa_str_eq(head_meta, meta));
    }
    char large[1026];
    memset(large, 'x', 1025);
    large[1025] = '\0';
    EXPECT(WA_INVALID, put("large", "x", large, WA_PUT_CREATE, &err));
    EXPECT(WA_INVALID, put("line", "x", "a\nb", WA_PUT_CREATE, &err));
    expect_missing("large");
}

static void
head_tells_size_and_time(void)
{
    uint64_t size = 0;
    wa_time modified = WA_TIME_NONE;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    EXPECT(WA_OK, put("h", "12345", NULL, WA_PUT_CREATE, &err));
    EXPECT(WA_OK, wa_store_head(store, key("h"), &size, &modified, &meta, &err));
    CHECK(size == 5);
    CHECK(wa_str_eq(meta, ""));
    int64_t off = wa_time_now() - modified;
    CHECK(off < INT64_C(120000000) && off > -INT64_C(120000000));
}

static void
ranges_and_tails_are_exact(void)
{
    EXPECT(WA_OK, put("r", "0123456789", "{\"t\":1}", WA_PUT_CREATE, &err));
    static const struct {
        uint64_t offset, len;
        const char *expected;
    } cases[] = {{0, 3, "012"},
                 {3, 4, "3456"},
                 {9, 1, "9"},
                 {7, 100, "789"},
                 {4, UINT64_MAX, "456789"},
                 {0, 10, "0123456789"}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
        EXPECT(WA_OK,
               wa_store_get(store, key("r"), cases[i].offset, cases[i].len, &got, NULL, &err));
        CHECK(wa_str_eq(wa_buf_str(&got), cases[i].expected));
    }
    WA_CLEANUP(wa_buf_done) wa_buf behind = WA_BUF_INIT(100);
    EXPECT(WA_INVALID, wa_store_get(store, key("r"), 10, 5, &behind, NULL, &err));
    EXPECT(WA_INVALID, wa_store_get(store, key("r"), 11, UINT64_MAX, &behind, NULL, &err));
    CHECK(behind.len == 0);
    for (uint64_t len = 1; len < 13; len++) {
        WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
        WA_CLEANUP(wa_freep) char *meta = NULL;
        uint64_t size = 0;
        EXPECT(WA_OK, wa_store_get_tail(store, key("r"), len, &got, &size, &meta, &err));
        CHECK(size == 10);
        CHECK(wa_str_eq(wa_buf_str(&got), &"0123456789"[len > 10 ? 0 : 10 - len]));
        CHECK(wa_str_eq(meta, "{\"t\":1}"));
    }
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    uint64_t size;
    EXPECT(WA_NOT_FOUND, wa_store_get_tail(store, key("none"), 5, &got, &size, NULL, &err));
}

static void
empty_objects_are_objects(void)
{
    EXPECT(WA_OK, put("e", "", "{\"e\":1}", WA_PUT_CREATE, &err));
    expect_content("e", "", "{\"e\":1}");
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    uint64_t size = 7;
    EXPECT(WA_OK, wa_store_get_tail(store, key("e"), 64, &got, &size, NULL, &err));
    CHECK(size == 0 && got.len == 0);
    EXPECT(WA_OK, wa_store_get(store, key("e"), 0, 10, &got, NULL, &err));
    CHECK(got.len == 0);
    EXPECT(WA_EXISTS, put("e", "x", NULL, WA_PUT_CREATE, &err));
    expect_listing("", false, NULL, 0, "e ");
}

static void
get_stops_at_the_buffers_cap(void)
{
    EXPECT(WA_OK, put("c", "0123456789", NULL, WA_PUT_CREATE, &err));
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(8);
    wa_buf_puts(&got, "abc");
    EXPECT(WA_NO_SPACE, wa_store_get(store, key("c"), 0, UINT64_MAX, &got, NULL, &err));
    CHECK(wa_str_eq(wa_buf_str(&got), "abc"));
    EXPECT(WA_OK, wa_store_get(store, key("c"), 5, 5, &got, NULL, &err));
    CHECK(wa_str_eq(wa_buf_str(&got), "abc56789"));
}

static void
large_objects_come_back_through_sinks_and_ranges(void)
{
    size_t len = 3 * 1024 * 1024 + 17;
    WA_CLEANUP(wa_freep) char *data = pattern(len, 2);
    wa_body body = {data, len, -1, 0};
    EXPECT(WA_OK, wa_store_put(store, key("big"), &body, NULL, WA_PUT_CREATE, &err));
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1 << 23);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&got);
    EXPECT(WA_OK, wa_store_get_to(store, key("big"), sink, &err));
    CHECK(got.len == len && memcmp(got.data, data, len) == 0);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    EXPECT(WA_OK, wa_store_ranges(store, key("big"), UINT64_MAX, &ranges, &err));
    if (ranges == NULL)
        return;
    CHECK(ranges->size == len);
    char piece[1000];
    EXPECT(WA_OK, wa_ranges_read(ranges, 1234567, piece, sizeof piece, &err));
    CHECK(memcmp(piece, data + 1234567, sizeof piece) == 0);
    EXPECT(WA_OK, wa_ranges_read(ranges, len - 10, piece, 10, &err));
    CHECK(memcmp(piece, data + len - 10, 10) == 0);
    EXPECT(WA_CORRUPT, wa_ranges_read(ranges, len - 10, piece, 11, &err));
    WA_CLEANUP(wa_ranges_freep) wa_ranges *none = NULL;
    EXPECT(WA_NOT_FOUND, wa_store_ranges(store, key("none"), UINT64_MAX, &none, &err));
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key("big"));
    EXPECT(WA_OK, wa_store_delete(store, &keys, &err));
    EXPECT(WA_NOT_FOUND, wa_ranges_read(ranges, 1234567, piece, sizeof piece, &err));
    EXPECT(WA_OK, wa_ranges_read(ranges, len - 10, piece, 10, &err)); /* not asked for again */
    CHECK(memcmp(piece, data + len - 10, 10) == 0);
}

static void
delete_removes_and_ignores_what_is_missing(void)
{
    EXPECT(WA_OK, put("d/1", "x", "{\"n\":1}", WA_PUT_CREATE, &err));
    EXPECT(WA_OK, put("d/2", "x", NULL, WA_PUT_CREATE, &err));
    EXPECT(WA_OK, put("e/f/3", "x", NULL, WA_PUT_CREATE, &err));
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    EXPECT(WA_OK, wa_store_delete(store, &keys, &err));
    wa_strv_add(&keys, key("d/1"));
    wa_strv_add(&keys, key("missing"));
    wa_strv_add(&keys, key("also/missing"));
    wa_strv_add(&keys, key("e/f/3"));
    EXPECT(WA_OK, wa_store_delete(store, &keys, &err));
    EXPECT(WA_OK, wa_store_delete(store, &keys, &err));
    expect_missing("d/1");
    expect_missing("e/f/3");
    expect_listing("", false, NULL, 0, "d/2 ");
    expect_listing("", true, NULL, 0, "d/ ");
    EXPECT(WA_OK, put("d/1", "again", NULL, WA_PUT_CREATE, &err));
    expect_content("d/1", "again", "");
}

static void
listings_are_in_key_order(void)
{
    static const char *const names[] = {"a/b/2", "a-b", "a/b/1", "a0", "a.b/x",
                                        "b",     "a/c", "A",     "aa"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++)
        EXPECT(WA_OK, put(names[i], "x", i % 2 ? "{}" : NULL, WA_PUT_CREATE, &err));
    for (size_t page = 0; page < 4; page++) {
        expect_listing("", false, NULL, page, "A a-b a.b/x a/b/1 a/b/2 a/c a0 aa b ");
        expect_listing("", true, NULL, page, "A a-b a.b/ a/ a0 aa b ");
        expect_listing("a", false, NULL, page, "a-b a.b/x a/b/1 a/b/2 a/c a0 aa ");
        expect_listing("a/", false, NULL, page, "a/b/1 a/b/2 a/c ");
        expect_listing("a/", true, NULL, page, "a/b/ a/c ");
        expect_listing("a/b", true, NULL, page, "a/b/ ");
        expect_listing("a/b/", true, NULL, page, "a/b/1 a/b/2 ");
        expect_listing("a/b/2", false, NULL, page, "a/b/2 ");
        expect_listing("nothing", false, NULL, page, "");
        expect_listing("a/b/1/x", false, NULL, page, "");
        expect_listing("", false, "a/b/1", page, "a/b/2 a/c a0 aa b ");
        expect_listing("", false, "a/b/11", page, "a/b/2 a/c a0 aa b ");
        expect_listing("", false, "a/zz", page, "a0 aa b ");
        expect_listing("a/", false, "a/b/2", page, "a/c ");
        expect_listing("", false, "zz", page, "");
        expect_listing("", true, "a/", page, "a0 aa b ");
        expect_listing("", true, "a.b/", page, "a/ a0 aa b ");
        expect_listing("a/", false, "A", page, "a/b/1 a/b/2 a/c ");
    }
}

static void
listings_end_when_the_caller_has_enough(void)
{
    for (unsigned i = 0; i < 9; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "%u", i);
        EXPECT(WA_OK, put(name, "xy", NULL, WA_PUT_CREATE, &err));
    }
    for (size_t stop = 1; stop < 10; stop++) {
        listing l = {WA_BUF_INIT(1000), 0, stop, 0};
        wa_list_options options = {prefix, false, NULL, 2};
        EXPECT(WA_OK, wa_store_list(store, &options, add_to_listing, &l, &err));
        CHECK(l.count == stop && l.bytes == 2 * stop);
        wa_buf_done(&l.text);
    }
}

static wa_status
fail_listing(void *arg, const wa_object *object, wa_error *err)
{
    (void)arg;
    return wa_error_set(err, WA_CORRUPT, "%s is not mine", object->key);
}

static void
listings_pass_the_callers_failure_on(void)
{
    EXPECT(WA_OK, put("x", "y", NULL, WA_PUT_CREATE, &err));
    wa_list_options options = {prefix, false, NULL, 0};
    EXPECT(WA_CORRUPT, wa_store_list(store, &options, fail_listing, NULL, &err));
}

static void
uploads_in_parts_become_one_object(void)
{
    WA_CLEANUP(wa_freep) char *data = pattern(2 * PART + 99, 3);
    wa_upload *upload = NULL;
    EXPECT(WA_OK, wa_upload_begin(store, key("u/x"), "{\"u\":1}", PART, &upload, &err));
    if (upload == NULL)
        return;
    EXPECT(WA_OK, wa_upload_part(upload, 3, data + 2 * PART, 99, &err));
    EXPECT(WA_OK, wa_upload_part(upload, 1, data, PART, &err));
    expect_missing("u/x");
    expect_listing("", false, NULL, 0, "");
    EXPECT(WA_OK, wa_upload_part(upload, 2, data + PART, PART, &err));
    EXPECT(WA_OK, wa_upload_commit(upload, &err));
    wa_upload_free(upload);
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(3 * PART);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    EXPECT(WA_OK, wa_store_get(store, key("u/x"), 0, UINT64_MAX, &got, &meta, &err));
    CHECK(got.len == 2 * PART + 99 && memcmp(got.data, data, got.len) == 0);
    CHECK(wa_str_eq(meta, "{\"u\":1}"));
}

static void
an_upload_without_commit_leaves_nothing(void)
{
    wa_upload *upload = NULL;
    EXPECT(WA_OK, wa_upload_begin(store, key("u/y"), "{}", PART, &upload, &err));
    if (upload == NULL)
        return;
    EXPECT(WA_OK, wa_upload_part(upload, 1, "abc", 3, &err));
    wa_upload_free(upload);
    expect_missing("u/y");
    expect_listing("", false, NULL, 0, "");
    size_t count = 7;
    EXPECT(WA_OK, wa_store_abort_uploads(store, prefix, wa_time_now() + 3600000000, &count, &err));
    CHECK(count == 0);
}

static void
abandoned_uploads_are_found_and_ended(void)
{
    wa_upload *one = NULL, *two = NULL;
    EXPECT(WA_OK, wa_upload_begin(store, key("p/one"), NULL, PART, &one, &err));
    EXPECT(WA_OK, wa_upload_begin(store, key("q/two"), NULL, PART, &two, &err));
    if (one != NULL)
        EXPECT(WA_OK, wa_upload_part(one, 1, "abc", 3, &err));
    size_t count = 7;
    EXPECT(WA_OK, wa_store_abort_uploads(store, prefix, wa_time_now() - INT64_C(3600000000), &count,
                                         &err));
    CHECK(count == 0);
    wa_time future = wa_time_now() + INT64_C(3600000000);
    EXPECT(WA_OK, wa_store_abort_uploads(store, key("p/"), future, &count, &err));
    CHECK(count == 1);
    EXPECT(WA_OK, wa_store_abort_uploads(store, prefix, future, &count, &err));
    CHECK(count == 1);
    wa_upload_free(one);
    wa_upload_free(two);
    expect_missing("p/one");
}

static void
write_through_sink(const char *name, size_t len, size_t threads, bool finish)
{
    WA_CLEANUP(wa_freep) char *data = pattern(len, 4);
    wa_sink *sink = NULL;
    EXPECT(WA_OK, wa_store_sink_new(store, key(name), "{\"s\":1}", threads, &sink, &err));
    if (sink == NULL)
        return;
    for (size_t at = 0, n; at < len; at += n) {
        n = 100003 < len - at ? 100003 : len - at;
        EXPECT(WA_OK, wa_sink_write(sink, data + at, n, &err));
    }
    if (finish)
        EXPECT(WA_OK, wa_sink_finish(sink, &err));
    wa_sink_free(sink);
    if (!finish) {
        expect_missing(name);
        return;
    }
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(len + 10);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    EXPECT(WA_OK, wa_store_get(store, key(name), 0, UINT64_MAX, &got, &meta, &err));
    CHECK(got.len == len && (len == 0 || memcmp(got.data, data, len) == 0));
    CHECK(wa_str_eq(meta, "{\"s\":1}"));
}

static void
sinks_write_objects_of_any_size(void)
{
    size_t part = (size_t)wa_store_get_traits(store)->part_size;
    for (size_t threads = 0; threads < 4; threads += 3) {
        char name[32];
        const size_t sizes[] = {0, 1, part - 1, part, part + 1, 3 * part, 4 * part + 12345};
        for (size_t i = 0; i < WA_ARRAY_SIZE(sizes); i++) {
            (void)snprintf(name, sizeof name, "s/%zu-%zu", threads, i);
            write_through_sink(name, sizes[i], threads, true);
        }
    }
    write_through_sink("abandoned/small", 1000, 2, false);
    write_through_sink("abandoned/large", 3 * part + 5, 2, false);
}

typedef struct writer {
    pthread_t thread;
    unsigned number;
    const char *key;
    bool with_facts;
    wa_status status;
} writer;

static void *
write_once(void *arg)
{
    writer *w = arg;
    char content[32], meta[32];
    (void)snprintf(content, sizeof content, "content of %u", w->number);
    (void)snprintf(meta, sizeof meta, "{\"writer\":%u}", w->number);
    wa_body body = text(content);
    wa_error err = WA_ERROR_INIT;
    w->status =
        wa_store_put(store, w->key, &body, w->with_facts ? meta : NULL, WA_PUT_CREATE, &err);
    return NULL;
}

static void
one_of_many_writers_wins(void)
{
    for (unsigned round = 0; round < 10; round++) {
        char name[32];
        (void)snprintf(name, sizeof name, "race/%u", round);
        const char *contested = key(name);
        writer writers[WRITERS];
        unsigned won = 0, winner = 0;
        for (unsigned i = 0; i < WRITERS; i++) {
            writers[i] = (writer){0, i, contested, round % 2 == 0, WA_FAILED};
            EXPECT(WA_OK,
                   wa_thread_start(&writers[i].thread, "writer", write_once, &writers[i], &err));
        }
        for (unsigned i = 0; i < WRITERS; i++) {
            wa_thread_join(writers[i].thread);
            CHECK(writers[i].status == WA_OK || writers[i].status == WA_EXISTS);
            if (writers[i].status == WA_OK) {
                won++;
                winner = i;
            }
        }
        CHECK(won == 1);
        char content[32], meta[32];
        (void)snprintf(content, sizeof content, "content of %u", winner);
        (void)snprintf(meta, sizeof meta, "{\"writer\":%u}", winner);
        expect_content(name, content, round % 2 == 0 ? meta : "");
    }
}

typedef struct ready_call {
    const char *name;
    wa_status answer;
    unsigned calls;
} ready_call;

static wa_status
when_ready(void *arg, wa_error *err)
{
    ready_call *c = arg;
    c->calls++;
    expect_missing(c->name);
    return c->answer == WA_OK ? WA_OK : wa_error_set(err, c->answer, "not now");
}

static void
nothing_is_visible_before_the_caller_is_ready(void)
{
    wa_body body = text("content");
    ready_call never = {"w/a", WA_CANCELLED, 0}, now = {"w/a", WA_OK, 0}, late = {"w/b", WA_OK, 0};
    EXPECT(WA_CANCELLED, wa_store_put_when(store, key("w/a"), &body, "{\"f\":1}", WA_PUT_CREATE,
                                           when_ready, &never, &err));
    expect_missing("w/a");
    CHECK(never.calls == 1);
    EXPECT(WA_OK, wa_store_put_when(store, key("w/a"), &body, "{\"f\":1}", WA_PUT_CREATE,
                                    when_ready, &now, &err));
    expect_content("w/a", "content", "{\"f\":1}");
    CHECK(now.calls == 1);
    EXPECT(WA_EXISTS, wa_store_put_when(store, key("w/a"), &body, NULL, WA_PUT_CREATE, when_ready,
                                        &late, &err)); /* it looks for "w/b" */
    CHECK(late.calls <= 1);
    expect_content("w/a", "content", "{\"f\":1}");
}

static void
requests_are_counted(void)
{
    uint64_t puts = wa_store_requests(store, "put"), gets = wa_store_requests(store, "get");
    uint64_t heads = wa_store_requests(store, "head");
    EXPECT(WA_OK, put("n", "x", NULL, WA_PUT_CREATE, &err));
    expect_content("n", "x", "");
    EXPECT(WA_OK, wa_store_head(store, key("n"), NULL, NULL, NULL, &err));
    CHECK(wa_store_requests(store, "put") > puts);
    CHECK(wa_store_requests(store, "get") > gets);
    CHECK(wa_store_requests(store, "head") > heads);
}

typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;
#define CASE(fn)                                                                                   \
    {                                                                                              \
#fn, fn                                                                                    \
    }
static const test_case cases[] = {
    CASE(put_then_get_returns_bytes_and_facts),
    CASE(put_refuses_to_overwrite),
    CASE(put_replaces_bytes_and_facts_when_asked),
    CASE(put_sends_a_range_of_a_file),
    CASE(missing_objects_are_not_found),
    CASE(illegal_keys_are_invalid),
    CASE(odd_but_legal_keys_work),
    CASE(facts_of_every_size_come_back),
    CASE(head_tells_size_and_time),
    CASE(ranges_and_tails_are_exact),
    CASE(empty_objects_are_objects),
    CASE(get_stops_at_the_buffers_cap),
    CASE(large_objects_come_back_through_sinks_and_ranges),
    CASE(delete_removes_and_ignores_what_is_missing),
    CASE(listings_are_in_key_order),
    CASE(listings_end_when_the_caller_has_enough),
    CASE(listings_pass_the_callers_failure_on),
    CASE(uploads_in_parts_become_one_object),
    CASE(an_upload_without_commit_leaves_nothing),
    CASE(abandoned_uploads_are_found_and_ended),
    CASE(sinks_write_objects_of_any_size),
    CASE(one_of_many_writers_wins),
    CASE(nothing_is_visible_before_the_caller_is_ready),
    CASE(requests_are_counted),
};

static const char *
option(const char *name)
{
    char variable[80];
    (void)snprintf(variable, sizeof variable, "WALAGENT_REPOSITORY_S3_%s", name);
    const char *value = getenv(variable);
    return wa_str_empty(value) ? NULL : value;
}

static wa_status
open_store(const char *url, wa_error *err)
{
    bool fault = wa_str_starts(url, "fault+"), mirror = wa_str_starts(url, "mirror+");
    wa_store_options options = {.url = fault    ? url + strlen("fault+")
                                       : mirror ? url + strlen("mirror+")
                                                : url,
                                .s3_endpoint = option("ENDPOINT"),
                                .s3_region = option("REGION"),
                                .s3_addressing = option("ADDRESSING"),
                                .s3_access_key_id = option("ACCESS_KEY_ID"),
                                .s3_secret_access_key = option("SECRET_ACCESS_KEY"),
                                .s3_session_token = option("SESSION_TOKEN"),
                                .s3_ca_file = option("CA_FILE"),
                                .s3_insecure = wa_str_eq(option("VERIFY_TLS"), "off")};
    WA_TRY(wa_store_open(&options, &store, err));
    if (fault)
        store = wa_store_fault_new(store);
    if (mirror) {
        wa_mirror beside = {wa_store_mem_new(), "beside"};
        store = wa_store_mirror_new(store, &beside, 1);
        wa_store_mirror_be_strict(store);
    }
    return WA_OK;
}

static bool
run_case(const test_case *c, uint64_t run)
{
    (void)snprintf(prefix, sizeof prefix, "contract-%016" PRIx64 "/%td/", run, c - cases);
    failures = 0;
    c->run();
    remove_all();
    printf("%s %s\n", failures ? "FAILED" : "ok    ", c->name);
    (void)fflush(stdout);
    return failures == 0;
}

int
main(int argc, char **argv)
{
    wa_error err = WA_ERROR_INIT;
    uint64_t run = 0;
    if (argc < 2 || getrandom(&run, sizeof run, 0) != (ssize_t)sizeof run) {
        (void)fprintf(stderr, "usage: store-contract URL [CASE]\n");
        return 2;
    }
    bool conditional = false;
    if (open_store(argv[1], &err) != WA_OK ||
        wa_store_probe(store, "contract-probe/", &conditional, &err) != WA_OK) {
        printf("FAILED to open %s: %s\n0 passed, 1 failed\n", argv[1], err.message);
        return 1;
    }
    printf("%s: conditional put %s\n", argv[1], conditional ? "yes" : "no");
    unsigned passed = 0, failed = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        if (argc > 2 && strcmp(argv[2], cases[i].name) != 0)
            continue;
        if (!conditional && cases[i].run == one_of_many_writers_wins)
            continue; /* that is what such a store cannot do */
        if (run_case(&cases[i], run))
            passed++;
        else
            failed++;
    }
    wa_store_free(store);
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
