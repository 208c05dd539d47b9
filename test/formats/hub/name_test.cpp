// Names of models, revisions, paths, addresses: what is let through and what is not.
#include "formats/hub/name.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "formats/hub/content_range.h"
#include "formats/hub/url.h"

using namespace qtool;

TEST_CASE("names of Hub models are told from folders") {
  for (const char* name : {"org/name", "Org-1/na.me_2", "a/b"}) {
    INFO(name);
    const auto found = hub_name_of(name, "");
    REQUIRE(found);
    CHECK(found->repository == name);
    CHECK(found->revision == "main");
    CHECK(found->text() == name);
  }
  for (const char* name : {"name", "", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a/b.git", ".a/b", "a/b-",
                           "a--b/c", "a/b c", "a/b\n", "\xc3\xa4/b", "~/models"}) {
    INFO(name);
    CHECK(!hub_name_of(name, ""));
  }
  CHECK(!hub_name_of("a/" + std::string(95, 'b'), ""));
  CHECK(hub_name_of("a/" + std::string(94, 'b'), ""));
}

TEST_CASE("revisions become paths and addresses only if they can do no harm") {
  CHECK(hub_name_of("a/b@v1.0", "")->revision == "v1.0");
  CHECK(hub_name_of("a/b", "refs/pr/1")->revision == "refs/pr/1");
  CHECK(hub_name_of("a/b@x", "x")->text() == "a/b@x");
  CHECK_THROWS_AS(hub_name_of("a/b@x", "y"), Error);
  for (const char* revision : {"", "..", "a/../b", "/a", "a/", "a//b", "a b", "a\nb", "a\\b", "a?b", "-a"}) {
    INFO(revision);
    CHECK_THROWS_AS(hub_name_of(std::string("a/b@") + revision, ""), Error);
  }
}

TEST_CASE("paths of a listing stay in their folder") {
  for (const char* path : {"config.json", "a/b/c.txt", "..a", "a..b", "\xc3\xa4"}) CHECK(is_safe_path(path));
  for (const char* path :
       {"", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "a\x01", "a\x7f"}) {
    INFO(path);
    CHECK(!is_safe_path(path));
  }
  CHECK(!is_safe_path(std::string("a\0b", 3)));
  CHECK(!is_safe_path(std::string(256, 'a')));
}

TEST_CASE("digests are lower-case hexadecimal digits") {
  CHECK(is_commit(std::string(40, 'a')));
  CHECK(!is_commit(std::string(40, 'A')));
  CHECK(!is_commit(std::string(39, '0')));
  CHECK(is_etag(std::string(64, '0')));
  CHECK(!is_etag(std::string(63, '0') + "/"));
}

TEST_CASE("an origin is scheme, host and port") {
  CHECK(origin_of("https://Example.org/a?b") == "https://example.org:443");
  CHECK(origin_of("HTTP://example.org:8080") == "http://example.org:8080");
  CHECK(origin_of("https://user@example.org") == origin_of("https://example.org:443/x"));
  CHECK(origin_of("https://example.org.evil.com") != origin_of("https://example.org"));
  CHECK(origin_of("ftp://example.org").empty());
  CHECK(origin_of("file:///etc/passwd").empty());
  CHECK(origin_of("nonsense").empty());
}

TEST_CASE("redirects lead to the web, and never out of encryption") {
  CHECK(redirected("https://a.org/x/y", "/z").value() == "https://a.org/z");
  CHECK(redirected("https://a.org/x/y", "z").value() == "https://a.org/x/z");
  CHECK(redirected("https://a.org/x", "https://b.org/z?s=1").value() == "https://b.org/z?s=1");
  CHECK(redirected("http://a.org/x", "https://b.org/").has_value());
  CHECK(!redirected("https://a.org/x", "http://a.org/x"));
  CHECK(!redirected("https://a.org/x", "file:///etc/passwd"));
  CHECK(!redirected("https://a.org/x", "gopher://a.org/"));
}

TEST_CASE("an endpoint is an address to which paths can be added") {
  CHECK(is_plain_endpoint("https://huggingface.co"));
  CHECK(is_plain_endpoint("http://127.0.0.1:8080/mirror"));
  for (const char* text : {"", "huggingface.co", "ftp://a", "https://", "https://u:p@a.org",
                           "https://a.org?x", "https://a.org#x", "file:///tmp"}) {
    INFO(text);
    CHECK(!is_plain_endpoint(text));
  }
}

TEST_CASE("addresses are quoted, and shown without their secrets") {
  CHECK(url_quoted("refs/pr 1%", false) == "refs%2Fpr%201%25");
  CHECK(url_quoted("a/b c.txt", true) == "a/b%20c.txt");
  CHECK(shown_url("https://u:p@a.org/x?Signature=y#z") == "https://a.org:443/x");
}

TEST_CASE("Content-Range is read strictly") {
  const auto range_of = [](const std::string& text) {
    return content_range_of({.status = 206, .headers = {{"content-range", text}}, .first_headers = {}});
  };
  const auto range = range_of("bytes 10-19/100");
  REQUIRE(range);
  CHECK(range->begin == 10);
  CHECK(range->end == 20);
  CHECK(range->total == 100);
  for (const char* text :
       {"", "bytes", "bytes */100", "bytes 10-9/100", "bytes 0-100/100", "bytes -1-2/10", "bytes 0-1/*",
        "bytes 0-1/10x", "items 0-1/10", "bytes 0-1/99999999999999999999"}) {
    INFO(text);
    CHECK(!range_of(text));
  }
}
