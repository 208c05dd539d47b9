#include "formats/hub/download.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <unistd.h>

#include "formats/file.h"
#include "formats/hub/blob_hash.h"
#include "formats/hub/content_range.h"
#include "formats/hub/file_lock.h"
#include "formats/hub/retry.h"

namespace qtool {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

// What has arrived so far: on the disk, and in the digest.
class Partial {
 public:
  Partial(const HubContext& context, const std::string& path, const HubFile& file)
      : context_(context),
        path_(path),
        file_(file),
        output_(path, OutputFile::Existing::kKept),
        hash_(make_hash()) {
    const InputFile before(path);
    if (before.size() > file.size) {
      restart();
      return;
    }
    std::vector<std::byte> buffer(kReadBytes);
    while (bytes_ < before.size()) {
      context_.cancellation.check();
      const auto count = std::min<std::int64_t>(kReadBytes, before.size() - bytes_);
      const std::span<std::byte> piece(buffer.data(), static_cast<std::size_t>(count));
      before.read_at(bytes_, piece);
      take(piece);
    }
  }

  std::int64_t bytes() const { return bytes_; }
  bool full() const { return bytes_ == file_.size; }

  void restart() {
    output_.resize(0);
    context_.observer.advance(-bytes_);
    bytes_ = 0;
    hash_ = make_hash();
  }

  void append(std::span<const std::byte> piece) {
    output_.write_at(bytes_, piece);
    take(piece);
  }

  bool verified() { return hash_.hex_digest() == file_.etag; }

  void name(const std::string& path) {
    output_.sync();
    if (std::rename(path_.c_str(), path.c_str()) != 0)
      throw Error(ExitCode::kIo,
                  "cannot write '" + escaped(path) + "': " + std::generic_category().message(errno), path);
  }

 private:
  BlobHash make_hash() const { return BlobHash(file_.etag, file_.size); }
  void take(std::span<const std::byte> piece) {
    hash_.update(piece);
    bytes_ += static_cast<std::int64_t>(piece.size());
    context_.observer.advance(static_cast<std::int64_t>(piece.size()));
  }

  const HubContext& context_;
  std::string path_;
  const HubFile& file_;
  OutputFile output_;
  BlobHash hash_;
  std::int64_t bytes_ = 0;
};

// Fetches what is missing of one file.
class Transfer {
 public:
  Transfer(HttpSession& session, const HubContext& context, const RemoteBlob& blob, Partial& partial)
      : session_(session),
        blob_(blob),
        partial_(partial),
        retry_(context.settings, context.cancellation, context.observer, blob.what),
        furthest_(partial.bytes()) {}

  void run() {
    while (!partial_.full()) {
      HttpResult result = ask();
      if (result.failure.empty() && result.head.ok() && partial_.full()) break;
      if (result.head.status == 416) {  // the server has less than we do: begin again
        partial_.restart();
        result.transient = true;
        result.failure = "what had arrived before does not fit";
      } else if (result.failure.empty() && result.head.ok()) {
        result.failure = "the server sent " + std::to_string(partial_.bytes()) + " of " +
                         std::to_string(blob_.file.size) + " bytes";
        result.transient = true;
      }
      retry_.wait(result);
    }
  }

 private:
  HttpResult ask() {
    HttpRequest request{.url = blob_.url};
    if (partial_.bytes() > 0) {
      request.range = std::to_string(partial_.bytes()) + "-";
      // Within one run the server must still have what it began to send. What an earlier run left is named
      // by its digest, which is tested in the end.
      request.if_range = validator_;
    }
    bool begun = false;
    return session_.get(request, [&](const HttpHead& head, std::span<const std::byte> bytes) {
      if (!begun) begin(head);
      begun = true;
      if (static_cast<std::int64_t>(bytes.size()) > blob_.file.size - partial_.bytes())
        throw Error(ExitCode::kNetwork, escaped(blob_.what) + ": the server sends more than the " +
                                            std::to_string(blob_.file.size) + " bytes of the file");
      partial_.append(bytes);
      if (partial_.bytes() <= furthest_) return;  // a server that ever begins anew makes no progress
      furthest_ = partial_.bytes();
      retry_.progressed();
    });
  }

  void begin(const HttpHead& head) {
    const auto refuse = [&](const std::string& sentence) {
      throw Error(ExitCode::kNetwork, escaped(blob_.what) + ": " + sentence);
    };
    if (head.status == 206) {
      const auto range = content_range_of(head);
      if (!range || range->begin != partial_.bytes() || range->total != blob_.file.size)
        refuse("the server sends another part of the file than it was asked for");
    } else if (partial_.bytes() > 0) {
      partial_.restart();  // the whole file once more: ranges are unknown here, or the file has changed
    }
    const auto linked = head.first_headers.find("x-linked-etag");
    if (linked != head.first_headers.end() && linked->second.find(blob_.file.etag) == std::string::npos)
      refuse("the Hub names another digest than its list of files");
    validator_ = head.header("etag");
    if (validator_.starts_with("W/")) validator_.clear();  // weak ones do not promise the same bytes
  }

  HttpSession& session_;
  const RemoteBlob& blob_;
  Partial& partial_;
  Retry retry_;
  std::int64_t furthest_;  // of all tries
  std::string validator_;  // ETag of the answer before
};

}  // namespace

void download_blob(HttpSession& session, const HubContext& context, const HubCache& cache,
                   const RemoteBlob& blob) {
  const HubFile& file = blob.file;
  const FileLock lock(cache.lock(file.etag), context.cancellation, [&] {
    context.observer.note(blob.what + ": another process is downloading it; waiting");
  });
  if (cache.holds(file)) return context.observer.advance(file.size);

  const std::string own = lock.exclusive() ? "" : "." + std::to_string(::getpid());
  const std::string path = cache.blob(file.etag) + own + ".incomplete";
  Partial partial(context, path, file);
  Transfer(session, context, blob, partial).run();
  if (!partial.verified()) {
    context.observer.note(blob.what +
                          ": the bytes that arrived are not those of the file; once more from the beginning");
    partial.restart();
    Transfer(session, context, blob, partial).run();
    if (!partial.verified()) {
      ::unlink(path.c_str());
      throw Error(ExitCode::kVerification,
                  escaped(blob.what) +
                      ": the bytes that arrive are not those that the Hub promises (digest " + file.etag +
                      "); something between here and there changes them");
    }
  }
  partial.name(cache.blob(file.etag));
}

}  // namespace qtool
