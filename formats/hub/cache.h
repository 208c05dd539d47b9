// One model's folder in the Hugging Face cache, as huggingface_hub lays it out:
//
//   models--ORG--NAME/blobs/ETAG                the files' bytes, named by their digest
//                    /blobs/ETAG.incomplete     a download that is not finished
//                    /refs/REVISION             the commit a branch or tag was last seen at
//                    /snapshots/COMMIT/PATH     -> ../../blobs/ETAG (one ".." more for every folder in PATH)
//   .locks/models--ORG--NAME/ETAG.lock          who writes the blob holds it
//   CACHEDIR.TAG                                tells backup programs to leave the cache out
//
// Source: huggingface_hub, file_download.py.
#pragma once

#include <optional>
#include <string>

#include "formats/hub/listing.h"

namespace qtool {

class HubCache {
 public:
  HubCache(const std::string& root, const std::string& repository);

  const std::string& folder() const { return folder_; }
  std::string blob(const std::string& etag) const { return folder_ + "/blobs/" + etag; }
  std::string lock(const std::string& etag) const { return locks_ + "/" + etag + ".lock"; }
  std::string snapshot(const std::string& commit) const { return folder_ + "/snapshots/" + commit; }

  // The commit of a revision as last seen; nothing if it never was. Errors: kMalformed, kIo.
  std::optional<std::string> commit_of(const std::string& revision) const;

  // Whether the snapshot shows all of the file's bytes.
  bool shows(const std::string& commit, const HubFile& file) const;
  bool holds(const HubFile& file) const;  // ... or the blob is there

  std::string path_of(const std::string& commit, const HubFile& file) const {  // of one that is there
    return holds(file) ? blob(file.etag) : snapshot(commit) + "/" + file.path;
  }

  // A snapshot's links lead to the blobs beside it: whatever else they lead to is no part of the model.
  // Errors: kMalformed.
  void check_links(const std::string& commit) const;

  void make_folders() const;  // errors: kIo
  // Lets the snapshot show a blob that is there. Errors: kIo.
  void link(const std::string& commit, const HubFile& file) const;
  void write_ref(const std::string& revision, const std::string& commit) const;  // errors: kIo

 private:
  std::string root_;
  std::string folder_;
  std::string locks_;
};

}  // namespace qtool
