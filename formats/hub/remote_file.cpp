#include "formats/hub/remote_file.h"

#include <algorithm>

#include "formats/hub/content_range.h"
#include "formats/hub/retry.h"

namespace qtool {
namespace {

// The length of a safetensors header is known only once it is begun to be read: most fit into this.
constexpr std::int64_t kFirstPiece = std::int64_t{256} << 10;
constexpr std::int64_t kLargestKept = std::int64_t{1} << 20;

}  // namespace

std::vector<std::byte> RemoteFile::fetch(std::int64_t begin, std::int64_t end) const {
  const HubContext context = connections_->context();
  Retry retry(context.settings, context.cancellation, context.observer, blob_.what);
  const auto wanted = static_cast<std::size_t>(end - begin);
  std::vector<std::byte> piece;
  const auto take = [&](const HttpHead& head, std::span<const std::byte> bytes) {
    const auto range = content_range_of(head);
    const bool whole = head.status == 200 && begin == 0 && end == size();
    const bool part =
        head.status == 206 && range && range->begin == begin && range->end == end && range->total == size();
    if ((!whole && !part) || bytes.size() > wanted - piece.size())
      throw Error(ExitCode::kNetwork,
                  escaped(blob_.what) +
                      ": the server does not send the part it was asked for; 'qtool pull' "
                      "fetches the whole file");
    piece.insert(piece.end(), bytes.begin(), bytes.end());
  };
  connections_->with_session([&](HttpSession& session) {
    while (true) {
      piece.clear();
      const std::string range = std::to_string(begin) + "-" + std::to_string(end - 1);
      HttpResult result = session.get({.url = blob_.url, .range = range}, take);
      if (result.failure.empty() && result.head.ok()) {
        if (piece.size() == wanted) return;
        result.failure = "the server sent too little";
        result.transient = true;
      }
      retry.wait(result);
    }
  });
  return piece;
}

void RemoteFile::read_at(std::int64_t offset, std::span<std::byte> out) const {
  const auto length = static_cast<std::int64_t>(out.size());
  if (length == 0) return;
  if (offset < 0 || length > size() || offset > size() - length)
    throw internal_error("read beyond '" + blob_.what + "'");
  {
    const std::scoped_lock lock(mutex_);
    auto kept = kept_.upper_bound(offset);
    if (kept != kept_.begin()) {
      --kept;
      const auto skipped = static_cast<std::size_t>(offset - kept->first);
      if (skipped + out.size() <= kept->second.size()) {
        std::copy_n(kept->second.begin() + static_cast<std::ptrdiff_t>(skipped), out.size(), out.begin());
        return;
      }
    }
  }
  const std::int64_t end = offset + std::max(length, offset == 0 ? std::min(kFirstPiece, size()) : 0);
  std::vector<std::byte> piece = fetch(offset, end);
  std::copy_n(piece.begin(), out.size(), out.begin());
  if (end - offset > kLargestKept) return;
  const std::scoped_lock lock(mutex_);
  kept_.insert_or_assign(offset, std::move(piece));
}

}  // namespace qtool
