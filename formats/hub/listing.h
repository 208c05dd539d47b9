// The Hub's API: which commit a revision is, and which files it holds.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/hub/http.h"
#include "formats/hub/name.h"
#include "formats/hub/observer.h"
#include "formats/json.h"

namespace qtool {

// A file of a repository at one commit. `path` is safe (is_safe_path), `etag` names its blob in the cache and
// says what its bytes must be (BlobHash).
struct HubFile {
  std::string path;
  std::int64_t size = 0;
  std::string etag;
};

// What all requests of one command share. The members must outlive it.
struct HubContext {
  const HubSettings& settings;
  const Cancellation& cancellation;
  HubObserver& observer;
};

// What the Hub's answers say, each refused whole where it says something impossible; `what` names the model
// in errors: kMalformed.
class FileList {
 public:
  explicit FileList(std::string what) : what_(std::move(what)) {}
  void add_page(const Json& answer);
  std::vector<HubFile> take() { return std::move(files_); }

 private:
  void add(const Json& entry);
  [[noreturn]] void fail(const std::string& sentence) const;
  std::string what_;
  std::set<std::string> seen_;
  std::vector<HubFile> files_;
};
std::string commit_in(const Json& answer, const std::string& what);
// The address in a header `Link: <https://...>; rel="next"`; empty where there is none.
std::string next_page(const HttpHead& head);

// GET /api/models/{repository}/revision/{revision}; a full commit is taken as it is, without a request.
// Errors: kNotFound, kNetwork, kMalformed.
std::string resolve_commit(HttpSession& session, const HubContext& context, const HubName& name);

// GET /api/models/{repository}/tree/{commit}?recursive=true, page by page. Files whose paths are unsafe are
// an error, not left out: a listing that tries to lead out of the folder is not to be trusted with the rest.
// Errors: kNotFound, kNetwork, kMalformed.
std::vector<HubFile> list_files(HttpSession& session, const HubContext& context, const HubName& name,
                                const std::string& commit);

// Where a file's bytes are asked for: {endpoint}/{repository}/resolve/{commit}/{path}.
std::string resolve_url(const HubSettings& settings, const HubName& name, const std::string& commit,
                        const std::string& path);

}  // namespace qtool
