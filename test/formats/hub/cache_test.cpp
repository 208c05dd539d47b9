// The cache's layout, digests, the choice of files, locks.
#include "formats/hub/cache.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/error.h"
#include "formats/file.h"
#include "formats/hub/blob_hash.h"
#include "formats/hub/file_lock.h"
#include "formats/hub/selection.h"
#include "formats/hub/settings.h"

using namespace qtool;
namespace fs = std::filesystem;

namespace {

struct TemporaryFolder {
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "qtool-hub-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryFolder() { fs::remove_all(path); }
  std::string path;
};

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

std::string digest_of(const std::string& etag_like, const std::string& text) {
  BlobHash hash(etag_like, static_cast<std::int64_t>(text.size()));
  hash.update(std::as_bytes(std::span(text)));
  return hash.hex_digest();
}

// Sets variables for one test and puts back what was there.
struct Environment {
  explicit Environment(std::map<std::string, const char*> values) {
    for (const auto& [name, value] : values) {
      const char* const old = std::getenv(name.c_str());
      before[name] = old ? std::optional<std::string>(old) : std::nullopt;
      value ? ::setenv(name.c_str(), value, 1) : ::unsetenv(name.c_str());
    }
  }
  ~Environment() {
    for (const auto& [name, value] : before)
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }
  std::map<std::string, std::optional<std::string>> before;
};

const std::map<std::string, const char*> kNothing{{"HF_HOME", nullptr},
                                                  {"HF_HUB_CACHE", nullptr},
                                                  {"HUGGINGFACE_HUB_CACHE", nullptr},
                                                  {"XDG_CACHE_HOME", nullptr},
                                                  {"HF_ENDPOINT", nullptr},
                                                  {"HF_TOKEN", nullptr},
                                                  {"HF_TOKEN_PATH", nullptr},
                                                  {"HF_HUB_OFFLINE", nullptr},
                                                  {"TRANSFORMERS_OFFLINE", nullptr},
                                                  {"HUGGING_FACE_HUB_TOKEN", nullptr},
                                                  {"HF_HUB_DOWNLOAD_TIMEOUT", nullptr},
                                                  {"HOME", "/home/x"},
                                                  {"HF_HUB_DISABLE_IMPLICIT_TOKEN", nullptr}};

HubSettings settings_with(std::map<std::string, const char*> values) {
  values.insert(kNothing.begin(), kNothing.end());
  const Environment environment(values);
  return hub_settings();
}

}  // namespace

TEST_CASE("blobs are named as git and git LFS do it") {
  // git hash-object, sha256sum
  CHECK(digest_of(std::string(40, '0'), "") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  CHECK(digest_of(std::string(40, '0'), "hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a");
  CHECK(digest_of(std::string(64, '0'), "abc") ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("SHA-1 of the standard's examples, however the text is cut") {
  const std::string text(1'000'000, 'a');
  for (const std::size_t piece :
       {std::size_t{1'000'000}, std::size_t{64}, std::size_t{63}, std::size_t{127}}) {
    Sha1 sha1;
    for (std::size_t at = 0; at < text.size(); at += piece)
      sha1.update(std::string_view(text).substr(at, piece));
    CHECK(sha1.hex_digest() == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  }
  Sha1 sha1;
  sha1.update(std::string_view("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"));
  CHECK(sha1.hex_digest() == "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

TEST_CASE("the environment is read as huggingface_hub does") {
  CHECK(settings_with({}).cache == "/home/x/.cache/huggingface/hub");
  CHECK(settings_with({}).endpoint == "https://huggingface.co");
  CHECK(settings_with({{"XDG_CACHE_HOME", "/xdg"}}).cache == "/xdg/huggingface/hub");
  CHECK(settings_with({{"HF_HOME", "~/hf"}, {"XDG_CACHE_HOME", "/xdg"}}).cache == "/home/x/hf/hub");
  CHECK(settings_with({{"HF_HOME", "/hf"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}).cache == "/old");
  CHECK(settings_with({{"HF_HUB_CACHE", "${HOME}/c/$NOT_SET_AT_ALL"}}).cache == "/home/x/c/$NOT_SET_AT_ALL");
  CHECK(settings_with({{"HF_ENDPOINT", "http://a:1/x//"}}).endpoint == "http://a:1/x");
  CHECK_THROWS_AS(settings_with({{"HF_ENDPOINT", "a.org"}}), Error);
  CHECK(settings_with({{"HF_HUB_OFFLINE", "yes"}}).offline);
  CHECK(settings_with({{"TRANSFORMERS_OFFLINE", "1"}}).offline);
  CHECK(!settings_with({{"HF_HUB_OFFLINE", "0"}}).offline);
  CHECK(settings_with({{"HF_HUB_DOWNLOAD_TIMEOUT", "7"}}).timeout == std::chrono::seconds(7));
  CHECK_THROWS_AS(settings_with({{"HF_HUB_DOWNLOAD_TIMEOUT", "soon"}}), Error);
}

TEST_CASE("the token: variable before file, trimmed, nothing that could begin a line") {
  const TemporaryFolder folder;
  write(folder.path + "/token", "hf_file\n");
  const char* const home = folder.path.c_str();
  CHECK(settings_with({{"HF_HOME", home}}).token == "hf_file");
  CHECK(settings_with({{"HF_HOME", home}, {"HF_TOKEN", " hf_variable\n"}}).token == "hf_variable");
  CHECK(settings_with({{"HF_HOME", home}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}).token.empty());
  CHECK_THROWS_AS(settings_with({{"HF_TOKEN", "a\r\nb: c"}}), Error);
}

TEST_CASE("which files a model needs") {
  const std::string single = "model.safetensors", index = single + ".index.json", bin = "pytorch_model.bin";
  CHECK(weight_files({single, index, bin, "other.safetensors"}).files == std::vector{single});
  CHECK(weight_files({index, bin, "model-00001-of-00002.safetensors"}).index == index);
  CHECK(weight_files({"nf4.safetensors", "consolidated.safetensors", bin}).files ==
        std::vector<std::string>{"nf4.safetensors"});
  CHECK(weight_files({bin, "model.gguf", "onnx/model.onnx"}).files == std::vector{bin});
  CHECK(weight_files({bin + ".index.json"}).index == bin + ".index.json");
  CHECK(weight_files({"adapter_model.safetensors"}).files.size() == 1);
  CHECK(weight_files({"model.gguf", "model-00001-of-00002.safetensors"}).files.empty());
  for (const char* name : {"config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json",
                           "additional_chat_templates/x.jinja", "LICENSE", "qwen.tiktoken"})
    CHECK(is_small_model_file(name));
  for (const char* name :
       {"README.md", "model.gguf", "original/config.json", "additional_chat_templates/a/b.jinja"})
    CHECK(!is_small_model_file(name));
}

TEST_CASE("a folder holds its weights only if all shards are there") {
  const TemporaryFolder folder;
  const fs::path at(folder.path);
  write(at / "config.json", "{}");
  write(
      at / "model.safetensors.index.json",
      R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  write(at / "model-00001-of-00002.safetensors", "x");
  CHECK(!holdings_of(folder.path).weights);
  fs::create_symlink("nowhere", at / "model-00002-of-00002.safetensors");
  CHECK(!holdings_of(folder.path).weights);
  fs::remove(at / "model-00002-of-00002.safetensors");
  write(at / "model-00002-of-00002.safetensors", "x");
  CHECK(holdings_of(folder.path).weights);
  CHECK(holdings_of(folder.path).config);
  CHECK(!holdings_of(folder.path).tokenizer);
  write(at / "qwen.tiktoken", "YQ== 0\n");
  CHECK(holdings_of(folder.path).tokenizer);
  write(at / "model.safetensors.index.json", R"({"weight_map": {"a": "../x.safetensors"}})");
  CHECK_THROWS_AS(holdings_of(folder.path), Error);
}

TEST_CASE("links, refs and folders as huggingface_hub lays them out") {
  const TemporaryFolder folder;
  const HubCache cache(folder.path, "org/name");
  const std::string commit(40, 'c');
  const HubFile file{"a/b/x.txt", 3, std::string(40, 'e')};
  CHECK(cache.folder() == folder.path + "/models--org--name");
  CHECK(!cache.commit_of("main"));
  CHECK(cache.commit_of(commit) == commit);
  cache.make_folders();
  CHECK(!cache.holds(file));
  write(cache.blob(file.etag), "abc");
  CHECK(cache.holds(file));
  cache.link(commit, file);
  cache.link(commit, file);
  CHECK(fs::read_symlink(cache.snapshot(commit) + "/a/b/x.txt") == "../../../../blobs/" + file.etag);
  CHECK(cache.shows(commit, file));
  cache.write_ref("refs/pr/1", commit);
  CHECK(read_file(cache.folder() + "/refs/refs/pr/1") == commit);
  CHECK(cache.commit_of("refs/pr/1") == commit);
  write(cache.folder() + "/refs/main", "../../etc");
  CHECK_THROWS_AS(cache.commit_of("main"), Error);
}

TEST_CASE("a snapshot's links lead to its own blobs or nowhere") {
  const TemporaryFolder folder;
  const HubCache cache(folder.path, "org/name");
  const std::string commit(40, 'c');
  cache.make_folders();
  const fs::path snapshot(cache.snapshot(commit));
  fs::create_directories(snapshot / "a");
  write(cache.blob("x"), "abc");
  write(snapshot / "copy.txt", "abc");
  fs::create_symlink("../../blobs/x", snapshot / "x.txt");
  fs::create_symlink("../../../blobs/x", snapshot / "a/x.txt");
  fs::create_symlink(fs::absolute(cache.blob("x")), snapshot / "whole.txt");
  CHECK_NOTHROW(cache.check_links(commit));
  CHECK_NOTHROW(cache.check_links(std::string(40, 'd')));  // a snapshot that is not there
  const std::string outside = folder.path + "/secret";
  write(outside, "abc");
  for (const std::string target :
       {"/etc/passwd", "../../../secret", "../../blobs/../refs/main", "../x.txt", "../.."}) {
    fs::create_symlink(target, snapshot / "bad.txt");
    INFO(target);
    CHECK_THROWS_AS(cache.check_links(commit), Error);
    fs::remove(snapshot / "bad.txt");
  }
}

TEST_CASE("a file lock excludes, says that it waits, and can be interrupted") {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/x.lock";
  Cancellation cancellation;
  std::atomic<bool> waited{false}, inside{false};
  std::thread other;
  {
    const FileLock lock(path, cancellation, [] {});
    CHECK(lock.exclusive());
    other = std::thread([&] {
      const FileLock second(path, cancellation, [&] { waited = true; });
      inside = true;
    });
    while (!waited) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(!inside);
  }
  other.join();
  CHECK(inside);
  const FileLock lock(path, cancellation, [] {});
  cancellation.raise();
  CHECK_THROWS_AS(FileLock(path, cancellation, [] {}), Error);
}
