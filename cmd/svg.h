// Drawings for reports: a small writer of SVG. Lengths are in pixels, y grows downwards; words are escaped.
#pragma once

#include <string>
#include <string_view>

namespace qtool {

enum class Anchor { kStart, kMiddle, kEnd };

struct TextStyle {
  double size = 12;
  Anchor anchor = Anchor::kStart;
  std::string_view fill = "#333333";
  bool bold = false;
};

class Svg {
 public:
  Svg(double width, const std::string& title);

  // A rectangle; a pointer that rests on it is told `about`.
  void rect(double x, double y, double width, double height, std::string_view fill,
            std::string_view about = "");
  void line(double x1, double y1, double x2, double y2, std::string_view stroke);
  void text(double x, double y, std::string_view words, const TextStyle& style = {});  // y: of the baseline

  // The file; `height` is known once everything is drawn.
  std::string finish(double height) const;

 private:
  double width_;
  std::string title_;
  std::string body_;
};

// Text as XML takes it: markup as entities, control characters as escaped() shows them, what is no UTF-8 as
// U+FFFD.
std::string xml_text(std::string_view text);

// `text`, or its end after an ellipsis, so that it takes about `width` at `size`; names differ at their ends.
std::string fitted(const std::string& text, double width, double size);

}  // namespace qtool
