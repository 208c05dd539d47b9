#include "cmd/svg.h"

#include <cmath>
#include <cstdio>

#include "core/error.h"

namespace qtool {
namespace {

constexpr double kCharacter = 0.58;  // mean width of a sans-serif letter, of its size

// "12", "12.5": no more digits than can be seen.
std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", std::isfinite(value) ? value : 0.0);
  std::string out = text;
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out;
}

std::string attribute(std::string_view name, std::string_view value) {
  return " " + std::string(name) + "=\"" + std::string(value) + "\"";
}

// Bytes of the UTF-8 character that begins at `at`; 0 if none does.
std::size_t character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(at);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xc2 ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xc0u) != 0x80u) return 0;
  const bool overlong = (first == 0xe0 && byte(at + 1) < 0xa0) || (first == 0xf0 && byte(at + 1) < 0x90);
  const bool outside = (first == 0xed && byte(at + 1) > 0x9f) || (first == 0xf4 && byte(at + 1) > 0x8f);
  return overlong || outside ? 0 : length;
}

}  // namespace

std::string xml_text(std::string_view text) {
  std::string out;
  const std::string shown = escaped(std::string(text));
  for (std::size_t at = 0; at < shown.size();) {
    const std::size_t length = character_at(shown, at);
    const char c = shown[at];
    if (length == 0)
      out += "\xef\xbf\xbd";
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += shown.substr(at, length);
    at += length == 0 ? 1 : length;
  }
  return out;
}

std::string fitted(const std::string& text, double width, double size) {
  const auto most = static_cast<std::size_t>(width / (kCharacter * size));
  if (text.size() <= most || most < 2) return text;
  std::size_t begin = text.size() - (most - 1);
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) ++begin;
  return "\xe2\x80\xa6" + text.substr(begin);
}

Svg::Svg(double width, const std::string& title) : width_(width), title_(title) {}

void Svg::rect(double x, double y, double width, double height, std::string_view fill,
               std::string_view about) {
  body_ += "<rect" + attribute("x", number(x)) + attribute("y", number(y)) +
           attribute("width", number(width)) + attribute("height", number(height)) + attribute("fill", fill);
  body_ += about.empty() ? "/>\n" : "><title>" + xml_text(about) + "</title></rect>\n";
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view stroke) {
  body_ += "<line" + attribute("x1", number(x1)) + attribute("y1", number(y1)) + attribute("x2", number(x2)) +
           attribute("y2", number(y2)) + attribute("stroke", stroke) + "/>\n";
}

void Svg::text(double x, double y, std::string_view words, const TextStyle& style) {
  body_ += "<text" + attribute("x", number(x)) + attribute("y", number(y)) +
           attribute("font-size", number(style.size)) + attribute("fill", style.fill);
  if (style.anchor != Anchor::kStart)
    body_ += attribute("text-anchor", style.anchor == Anchor::kMiddle ? "middle" : "end");
  if (style.bold) body_ += attribute("font-weight", "bold");
  body_ += ">" + xml_text(words) + "</text>\n";
}

std::string Svg::finish(double height) const {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\"" + attribute("width", number(width_)) +
         attribute("height", number(height)) +
         attribute("viewBox", "0 0 " + number(width_) + " " + number(height)) +
         attribute("font-family", "DejaVu Sans, Helvetica, Arial, sans-serif") + ">\n<title>" +
         xml_text(title_) + "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" + body_ +
         "</svg>\n";
}

}  // namespace qtool
