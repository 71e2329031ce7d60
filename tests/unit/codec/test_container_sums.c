/*
 * test_container_sums.c - the frames' checksums that a container's facts may tell.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "container_internal.h"

#include "walagent/base/crc32c.h"

#include <stdlib.h>
#include <string.h>

#define MIB (1024u * 1024)

static void
assert_ok(wa_status status, const wa_error *err)
{
    if (status != WA_OK)
        fail_msg("%s: %s", wa_status_name(status), err->message);
}

static uint8_t *
make_content(size_t len)
{
    uint8_t *data = wa_malloc(len);
    uint32_t seed = 20260731;

    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
    return data;
}

/* An object of n frames of 64 bytes, with the frames' checksums in its facts or without. */
static void
write_frames(const uint8_t *data, size_t n, bool publish, wa_buf *out)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(out);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();

    wa_json_set_string(facts, "kind", "test");
    assert_ok(wa_container_writer_new(sink, NULL, 3, 64, &w, &err), &err);
    if (publish)
        wa_container_publish_sums(w);
    assert_ok(wa_container_write(w, data, n * 64, &err), &err);
    assert_ok(wa_container_finish(w, facts, NULL, &err), &err);
}

static void
a_frames_checksum_is_in_the_facts_or_at_its_end(void **state)
{
    (void)state;
    const size_t counts[] = {1, 5, WA_SUMS_MAX, WA_SUMS_MAX + 1};
    WA_CLEANUP(wa_freep) uint8_t *data = make_content((WA_SUMS_MAX + 1) * 64);
    WA_CLEANUP(wa_frame_sum_freep) wa_frame_sum *sum = wa_frame_sum_new();
    wa_error err = WA_ERROR_INIT;

    for (size_t k = 0; k < 2 * WA_ARRAY_SIZE(counts); k++) {
        bool publish = k % 2 == 1;
        size_t n = counts[k / 2];
        WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
        write_frames(data, n, publish, &object);
        WA_CLEANUP(wa_ranges_freep)
        wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
        WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
        assert_ok(wa_container_open(from, &c, &err), &err);
        assert_int_equal(wa_container_has_sums(c), publish && n <= WA_SUMS_MAX);
        for (size_t i = 0; i < n; i++) {
            uint32_t found = 0;
            wa_frame_sum_reset(sum);
            wa_frame_sum_update(sum, data + i * 64, 10);
            wa_frame_sum_update(sum, data + i * 64 + 10, 54);
            assert_ok(wa_container_frame_sum(c, i, &found, &err), &err);
            assert_int_equal(found, wa_frame_sum_get(sum));
        }
    }
}

/* A later version may list something else under the name. */
static void
checksums_of_another_form_are_passed_over(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(192);
    static const char *const ends[] = {"0", "-", "\"               ", "\"       ", "\""};

    for (size_t k = 0; k < WA_ARRAY_SIZE(ends); k++) { /* as it was; no digit; too short */
        WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
        wa_error err = WA_ERROR_INIT;
        WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
        write_frames(data, 3, true, &object);
        char *text = memmem(object.data, object.len, "{\"v\":1", 6), seal[WA_CRC_HEX];
        assert_non_null(text);
        char *sums = strstr(text, "\"frame_sums\":\""), *crc = strstr(text, ",\"crc\"");
        assert_non_null(sums);
        assert_non_null(crc);
        char *end = sums + strlen("\"frame_sums\":\"") + 24;
        assert_int_equal(*end, '"');
        if (ends[k][0] == '"')
            *end = ' ';
        memcpy(end - strlen(ends[k]), ends[k], strlen(ends[k]));
        wa_container_crc_text(wa_crc32c(0, text, (size_t)(crc - text)), seal);
        memcpy(crc + strlen(",\"crc\":\""), seal, 8);
        WA_CLEANUP(wa_ranges_freep)
        wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
        assert_ok(wa_container_open(from, &c, &err), &err);
        assert_int_equal(wa_container_has_sums(c), k == 0);
    }
}

/* One digit of frame 1's checksum is another one. */
static void
wrong_checksums_in_the_facts_are_counted_and_the_content_is_right(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(192);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    wa_error err = WA_ERROR_INIT;

    assert_ok(wa_pool_new("read", 2, 2, &pool, &err), &err);
    for (size_t k = 0; k < 4; k++) { /* wrong or right; with a pool or without */
        WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
        WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(MIB);
        WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
        WA_CLEANUP(wa_sink_freep) wa_sink *to = wa_sink_to_buf(&got);
        size_t wrong = SIZE_MAX;
        write_frames(data, 3, true, &object);
        char *text = memmem(object.data, object.len, "{\"v\":1", 6), seal[WA_CRC_HEX];
        assert_non_null(text);
        char *digit = strstr(text, "\"frame_sums\":\""), *crc = strstr(text, ",\"crc\"");
        assert_true(digit != NULL && crc != NULL);
        digit += strlen("\"frame_sums\":\"") + WA_SUM_DIGITS;
        if (k % 2 == 1)
            *digit = *digit == '0' ? '1' : '0';
        wa_container_crc_text(wa_crc32c(0, text, (size_t)(crc - text)), seal);
        memcpy(crc + strlen(",\"crc\":\""), seal, WA_CRC_HEX - 1);
        WA_CLEANUP(wa_ranges_freep)
        wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
        assert_ok(wa_container_open(from, &c, &err), &err);
        assert_ok(wa_container_check_all(c, k < 2 ? NULL : pool, to, &wrong, &err), &err);
        assert_int_equal(wrong, k % 2);
        assert_int_equal(got.len, 192);
        assert_memory_equal(got.data, data, 192);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frames_checksum_is_in_the_facts_or_at_its_end),
        cmocka_unit_test(checksums_of_another_form_are_passed_over),
        cmocka_unit_test(wrong_checksums_in_the_facts_are_counted_and_the_content_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
