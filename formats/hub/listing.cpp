#include "formats/hub/listing.h"

#include <nlohmann/json.hpp>

#include "formats/hub/retry.h"
#include "formats/hub/url.h"
#include "formats/json.h"

namespace qtool {
namespace {

constexpr std::int64_t kLargestPage = std::int64_t{32} << 20;
constexpr int kMostPages = 200;  // of 1000 files
constexpr std::size_t kMostFiles = 200'000;
constexpr std::int64_t kLargestFile = std::int64_t{1} << 46;  // 70 TB: sums of them do not overflow

struct Page {
  Json body;
  std::string next;  // address of the next page, if any
};

Page ask(HttpSession& session, const HubContext& context, const std::string& url, const std::string& what) {
  Retry retry(context.settings, context.cancellation, context.observer, what);
  while (true) {
    std::string text;
    const HttpResult result =
        session.get({.url = url}, [&](const HttpHead&, std::span<const std::byte> bytes) {
          if (static_cast<std::int64_t>(text.size() + bytes.size()) > kLargestPage)
            throw Error(ExitCode::kMalformed, what + ": the Hub's answer is larger than " +
                                                  std::to_string(kLargestPage) + " bytes");
          text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        });
    if (result.failure.empty() && result.head.ok())
      return {parse_json(text, what + ": the Hub's answer"), next_page(result.head)};
    retry.wait(result);
  }
}

std::string api_url(const HubSettings& settings, const HubName& name) {
  return settings.endpoint + "/api/models/" + url_quoted(name.repository, true);
}

}  // namespace

std::string next_page(const HttpHead& head) {
  const std::string link = head.header("link");
  const std::size_t rel = link.find("rel=\"next\"");
  if (rel == std::string::npos) return "";
  const std::size_t begin = link.rfind('<', rel);
  const std::size_t end = link.find('>', begin == std::string::npos ? 0 : begin);
  if (begin == std::string::npos || end == std::string::npos || end > rel) return "";
  return link.substr(begin + 1, end - begin - 1);
}

std::string commit_in(const Json& answer, const std::string& what) {
  std::string commit = optional_string(answer, "sha", "", what + ": the Hub's answer");
  if (!is_commit(commit)) throw Error(ExitCode::kMalformed, what + ": the Hub's answer names no commit");
  return commit;
}

void FileList::add_page(const Json& answer) {
  if (!answer.is_array()) throw Error(ExitCode::kMalformed, what_ + ": the Hub's answer is no list of files");
  for (const Json& entry : answer) add(entry);
}

void FileList::add(const Json& entry) {
  const std::string type = optional_string(entry, "type", "", what_);
  if (type != "file") return;  // "directory"
  HubFile file;
  file.path = optional_string(entry, "path", "", what_);
  if (!is_safe_path(file.path)) fail("lists a file of an impossible name");
  const Json lfs = entry.value("lfs", Json());
  const bool large = lfs.is_object();
  file.etag = optional_string(large ? lfs : entry, "oid", "", what_);
  if (file.etag.starts_with("sha256:")) file.etag.erase(0, 7);
  if (!is_hex(file.etag, large ? 64 : 40)) fail("gives no digest of '" + escaped(file.path) + "'");
  file.size = required_int(large ? lfs : entry, "size", what_);
  if (file.size < 0 || file.size > kLargestFile) fail("gives no size of '" + escaped(file.path) + "'");
  if (!seen_.insert(file.path).second) fail("lists '" + escaped(file.path) + "' twice");
  if (files_.size() >= kMostFiles) fail("lists too many files");
  files_.push_back(std::move(file));
}

void FileList::fail(const std::string& sentence) const {
  throw Error(ExitCode::kMalformed, what_ + ": the Hub " + sentence);
}

std::string resolve_commit(HttpSession& session, const HubContext& context, const HubName& name) {
  if (is_commit(name.revision)) return name.revision;
  const std::string what = name.text();
  const Page page =
      ask(session, context, api_url(context.settings, name) + "/revision/" + url_quoted(name.revision, false),
          what);
  return commit_in(page.body, what);
}

std::vector<HubFile> list_files(HttpSession& session, const HubContext& context, const HubName& name,
                                const std::string& commit) {
  const std::string what = name.text();
  std::string url = api_url(context.settings, name) + "/tree/" + commit + "?recursive=true&expand=false";
  FileList list(what);
  for (int pages = 0; !url.empty(); ++pages) {
    // The next page lies where this one did: an address elsewhere would be asked on the listing's word alone.
    if (pages == kMostPages || origin_of(url) != origin_of(context.settings.endpoint))
      throw Error(ExitCode::kMalformed, what + ": the Hub's list of files goes on without end or elsewhere");
    Page page = ask(session, context, url, what);
    list.add_page(page.body);
    url = std::move(page.next);
  }
  return list.take();
}

std::string resolve_url(const HubSettings& settings, const HubName& name, const std::string& commit,
                        const std::string& path) {
  return settings.endpoint + "/" + url_quoted(name.repository, true) + "/resolve/" + commit + "/" +
         url_quoted(path, true);
}

}  // namespace qtool
