// What the Hub answers: a line with the Link header, then the JSON of a page of files or of a revision.
#include <nlohmann/json.hpp>
#include <set>

#include "formats/hub/content_range.h"
#include "formats/hub/listing.h"
#include "formats/hub/selection.h"
#include "formats/hub/url.h"
#include "test/fuzz/fuzz.h"

namespace {

// The listing's paths become paths of the disk, its sizes are added up, its digests name files.
void read_page(const qtool::Json& page) {
  using qtool::test::must_hold;
  qtool::FileList list("org/name");
  list.add_page(page);
  std::set<std::string> names;
  std::int64_t sum = 0;
  for (const qtool::HubFile& file : list.take()) {
    must_hold(qtool::is_safe_path(file.path) && qtool::is_etag(file.etag), "an unsafe name was let in");
    must_hold(file.size >= 0 && !__builtin_add_overflow(sum, file.size, &sum), "sizes have no sum");
    const std::string below = std::filesystem::path("/cache/" + file.path).lexically_normal().string();
    must_hold(below.starts_with("/cache/"), "a path leads out of the folder");
    must_hold(names.insert(file.path).second, "a file is listed twice");
    qtool::is_small_model_file(file.path);
  }
  qtool::weight_files(names);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = qtool::test::text_of(data, size);
  const std::size_t line_end = std::min(text.find('\n'), text.size());
  qtool::HttpHead head;
  head.headers["link"] = head.headers["content-range"] = std::string(text.substr(0, line_end));
  qtool::test::survives([&] { qtool::origin_of(qtool::next_page(head)); });
  if (const auto range = qtool::content_range_of(head))
    qtool::test::must_hold(range->begin >= 0 && range->begin <= range->end && range->end <= range->total,
                           "a range that is none");
  return qtool::test::survives([&] {
    const qtool::Json answer = qtool::parse_json(text.substr(std::min(line_end + 1, text.size())), "answer");
    if (answer.is_array())
      read_page(answer);
    else
      qtool::test::must_hold(qtool::is_commit(qtool::commit_in(answer, "org/name")), "no commit");
  });
}
