/*
 * Tests of the hashes against published values.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/str.h"
#include "walagent/codec/hash.h"

#include <string.h>

static void
xxh3_agrees_with_its_published_values(void **state)
{
    (void)state;
    char hex[WA_XXH_HEX];

    /* xxhsum -H2 of nothing and of "abc" */
    assert_string_equal(wa_xxh_of(NULL, 0, hex), "99aa06d3014798d86001c324468d497f");
    assert_string_equal(wa_xxh_of("abc", 3, hex), "06b05ab6733a618578af5f94892f3950");
    assert_true(wa_xxh_quick(0, NULL, 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(wa_xxh_quick(0, "abc", 3) == UINT64_C(0x78af5f94892f3950));
    assert_true(wa_xxh_quick(1, "abc", 3) != wa_xxh_quick(0, "abc", 3));
}

static void
streamed_xxh3_equals_one_shot_at_every_step(void **state)
{
    (void)state;
    uint8_t data[3000];
    char one[WA_XXH_HEX], streamed[WA_XXH_HEX];
    WA_CLEANUP(wa_xxh_freep) wa_xxh *h = wa_xxh_new();

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + i / 7);
    for (size_t done = 0, step = 0; done + step <= sizeof data; done += step, step++) {
        wa_xxh_update(h, data + done, step);
        assert_string_equal(wa_xxh_hex(h, streamed), wa_xxh_of(data, done + step, one));
    }
    wa_xxh_reset(h);
    assert_string_equal(wa_xxh_hex(h, streamed), wa_xxh_of(NULL, 0, one));
}

static void
digests_agree_with_their_published_values(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "900150983cd24fb0d6963f7d28e17f72",
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134"
        "c825a7",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3"
        "feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
    };
    uint8_t out[WA_DIGEST_MAX];
    char hex[2 * WA_DIGEST_MAX + 1];

    for (size_t i = 0; i < WA_ARRAY_SIZE(expected); i++) {
        wa_digest_kind kind = (wa_digest_kind)i;
        WA_CLEANUP(wa_digest_freep) wa_digest *d = wa_digest_new(kind);
        wa_digest_of(kind, "abc", 3, out);
        assert_string_equal(wa_hex(out, wa_digest_size(kind), hex), expected[i]);
        memset(out, 0, sizeof out);
        wa_digest_update(d, "a", 1);
        wa_digest_update(d, NULL, 0);
        wa_digest_update(d, "bc", 2);
        wa_digest_final(d, out);
        assert_string_equal(wa_hex(out, wa_digest_size(kind), hex), expected[i]);
    }
    assert_string_equal(wa_sha256_hex(NULL, 0, hex),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void
short_sha256_agrees_with_its_published_values(void **state)
{
    (void)state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    char hex[WA_SHA256_HEX];

    assert_string_equal(wa_sha256_short_hex(NULL, 0, hex),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_string_equal(wa_sha256_short_hex("abc", 3, hex),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(wa_sha256_short_hex(two_blocks, strlen(two_blocks), hex),
                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* Every length around the ends of blocks and of what fits beside the length. */
static void
short_sha256_equals_libcryptos_at_every_length(void **state)
{
    (void)state;
    uint8_t data[1000];
    char ours[WA_SHA256_HEX], theirs[WA_SHA256_HEX];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 131 + i / 3);
    for (size_t len = 0; len <= sizeof data; len++)
        assert_string_equal(wa_sha256_short_hex(data, len, ours), wa_sha256_hex(data, len, theirs));
}

static void
hmac_agrees_with_rfc_4231(void **state)
{
    (void)state;
    uint8_t key[131], out[32];
    char hex[65];

    memset(key, 0x0b, 20);
    wa_hmac_sha256(key, 20, "Hi There", 8, out);
    assert_string_equal(wa_hex(out, 32, hex),
                        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    memset(key, 0xaa, sizeof key);
    const char *text = "Test Using Larger Than Block-Size Key - Hash Key First";
    wa_hmac_sha256(key, sizeof key, text, strlen(text), out);
    assert_string_equal(wa_hex(out, 32, hex),
                        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    wa_hmac_sha256(NULL, 0, NULL, 0, out);
    assert_string_equal(wa_hex(out, 32, hex),
                        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void
base64_agrees_with_rfc_4648(void **state)
{
    (void)state;
    static const char *const expected[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                           "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

    for (size_t i = 0; i < WA_ARRAY_SIZE(expected); i++) {
        WA_CLEANUP(wa_freep) char *text = wa_base64("foobar", i);
        assert_string_equal(text, expected[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xxh3_agrees_with_its_published_values),
        cmocka_unit_test(streamed_xxh3_equals_one_shot_at_every_step),
        cmocka_unit_test(digests_agree_with_their_published_values),
        cmocka_unit_test(short_sha256_agrees_with_its_published_values),
        cmocka_unit_test(short_sha256_equals_libcryptos_at_every_length),
        cmocka_unit_test(hmac_agrees_with_rfc_4231),
        cmocka_unit_test(base64_agrees_with_rfc_4648),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
