/*
 * Tests of the XML reader with answers as S3 servers give them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/buf.h"
#include "walagent/base/mem.h"
#include "walagent/codec/xml.h"

#include <string.h>

static wa_status
collect(void *arg, const char *path, const char *text, wa_error *err)
{
    wa_buf *out = arg;

    if (text && strcmp(text, "stop here") == 0)
        return wa_error_set(err, WA_DENIED, "stopped");
    wa_buf_printf(out, "%s=%s\n", path, text ? text : "(end)");
    return WA_OK;
}

static wa_status
parse(const char *xml, wa_buf *out, wa_error *err)
{
    return wa_xml_parse(xml, strlen(xml), "answer", collect, out, err);
}

static void
a_listing_is_reported_by_path(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(4096);
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(
        parse("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
              "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\" xmlns:x=\"y\">\n"
              "  <Prefix/>\n  <Contents><x:Key>a&amp;b &lt;\xc3\xa4&#10;</x:Key><Size> "
              "5</Size></Contents>\n"
              "  <Contents><Key><![CDATA[c]]></Key></Contents>\n</ListBucketResult>\n",
              &out, &err),
        WA_OK);
    assert_string_equal(wa_buf_str(&out), "ListBucketResult/Prefix=\n"
                                          "ListBucketResult/Contents/Key=a&b <\xc3\xa4\n\n"
                                          "ListBucketResult/Contents/Size= 5\n"
                                          "ListBucketResult/Contents=(end)\n"
                                          "ListBucketResult/Contents/Key=c\n"
                                          "ListBucketResult/Contents=(end)\n"
                                          "ListBucketResult=(end)\n");
}

static void
what_is_not_xml_is_corrupt(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "<a>",
                                        "<a></b>",
                                        "<a/><b/>",
                                        "x",
                                        "<a>&other;</a>",
                                        "<a>\xff</a>",
                                        "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
                                        "<!DOCTYPE a><a/>"};

    for (size_t i = 0; i < WA_ARRAY_SIZE(texts); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(4096);
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(parse(texts[i], &out, &err), WA_CORRUPT);
        assert_ptr_equal(strstr(err.message, "answer"), err.message);
    }
}

static void
depth_and_text_are_limited(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done)
    wa_buf out = WA_BUF_INIT(4096), deep = WA_BUF_INIT(4096), longer = WA_BUF_INIT(4 << 20);
    wa_error err = WA_ERROR_INIT;

    for (int i = 0; i < 33; i++)
        wa_buf_puts(&deep, "<a>");
    assert_int_equal(parse(deep.data, &out, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "deeply"));
    wa_buf_puts(&longer, "<a>");
    for (int i = 0; i < (1 << 20) + 1; i++)
        wa_buf_putc(&longer, 'x');
    wa_buf_puts(&longer, "</a>");
    assert_int_equal(parse(longer.data, &out, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "too long"));
}

static void
the_failure_of_the_callback_is_passed_on(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(4096);
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(parse("<a><b>one</b><b>stop here</b><b>two</b></a>", &out, &err), WA_DENIED);
    assert_string_equal(err.message, "stopped");
    assert_string_equal(wa_buf_str(&out), "a/b=one\n");
}

static void
one_element_is_found_even_in_a_body_that_was_cut(void **state)
{
    (void)state;
    const char *xml = "<Error><Code>SlowDown</Code><Message>Please reduce</Message><Requ";
    WA_CLEANUP(wa_freep) char *code = wa_xml_find(xml, strlen(xml), "Error/Code");
    WA_CLEANUP(wa_freep) char *none = wa_xml_find(xml, strlen(xml), "Error/Nothing");
    WA_CLEANUP(wa_freep) char *html = wa_xml_find("<html", 5, "Error/Code");
    WA_CLEANUP(wa_freep) char *empty = wa_xml_find(NULL, 0, "Error/Code");

    assert_string_equal(code, "SlowDown");
    assert_null(none);
    assert_null(html);
    assert_null(empty);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listing_is_reported_by_path),
        cmocka_unit_test(what_is_not_xml_is_corrupt),
        cmocka_unit_test(depth_and_text_are_limited),
        cmocka_unit_test(the_failure_of_the_callback_is_passed_on),
        cmocka_unit_test(one_element_is_found_even_in_a_body_that_was_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
