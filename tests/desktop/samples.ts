/**
 * Files that programs are given to open, each made of its format's words: a picture, a document, a
 * film, a sound, a drawing, a text. What has a colour has this one.
 *
 * @module
 */
import { writePng } from "./picture.ts";

/** Magenta: no theme has it. */
export const sampleColour = 0xff00ff;

const text = (words: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(words);

/** What there is to be opened, by the name of the file. */
export const samples = {
  "picture.png": () =>
    writePng({ width: 320, height: 240, pixels: new Uint32Array(320 * 240).fill(sampleColour) }),
  "page.html": () => Promise.resolve(text(page)),
  "drawing.svg": () => Promise.resolve(text(drawing)),
  "paper.pdf": () => Promise.resolve(paper()),
  "letter.fodt": () => Promise.resolve(text(letter)),
  "film.y4m": () => film(),
  "tone.wav": () => Promise.resolve(tone()),
  "notes.txt": () => Promise.resolve(text("Bread\nMilk\nPostage stamps\n")),
} as const satisfies Readonly<Record<string, () => Promise<Uint8Array<ArrayBuffer>>>>;

const drawing = `<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200">
  <rect width="300" height="200" fill="#ff00ff"/>
</svg>
`;

const page = `<!doctype html><title>page</title><body style="background: #ff00ff">\n`;

/** One page, all of it in the colour. ISO 32000-1, 7.5. */
function paper(): Uint8Array<ArrayBuffer> {
  const content = "1 0 1 rg 0 0 300 400 re f";
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 400] /Contents 4 0 R /Resources << >> >>",
    `<< /Length ${content.length} >>\nstream\n${content}\nendstream`,
  ];
  let file = "%PDF-1.4\n";
  const places = objects.map((object, at) => {
    const place = file.length;
    file += `${at + 1} 0 obj\n${object}\nendobj\n`;
    return `${String(place).padStart(10, "0")} 00000 n \n`;
  });
  const table = file.length;
  file += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${places.join("")}`;
  file += `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`;
  return text(file);
}

/** A text on that colour. OpenDocument 1.3, part 3, section 3.1.2: in one XML file. */
const letter = `<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
  xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"
  xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
  xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0"
  office:version="1.3" office:mimetype="application/vnd.oasis.opendocument.text">
  <office:automatic-styles><style:style style:name="P" style:family="paragraph">
    <style:paragraph-properties fo:background-color="#ff00ff"/>
  </style:style></office:automatic-styles>
  <office:body><office:text>${'<text:p text:style-name="P">Dear reader</text:p>'.repeat(12)}
  </office:text></office:body>
</office:document>
`;

/** A minute of one picture. yuv4mpeg(5), and ITU-R BT.601 for the colour. */
async function film(): Promise<Uint8Array<ArrayBuffer>> {
  const size = 320 * 240;
  const picture = new Uint8Array(size * 3 / 2);
  picture.fill(106, 0, size).fill(202, size, size * 5 / 4).fill(222, size * 5 / 4);
  const frames = Array.from({ length: 60 }, () => ["FRAME\n", picture]).flat();
  const file = new Blob(["YUV4MPEG2 W320 H240 F1:1 Ip A1:1 C420jpeg\n", ...frames]);
  return new Uint8Array(await file.arrayBuffer());
}

/** Two seconds, 8 bits, 8000 samples each. RIFF WAVE. */
function tone(): Uint8Array<ArrayBuffer> {
  const rate = 8000;
  const sound = Uint8Array.from(
    { length: 2 * rate },
    (_, at) => 128 + 100 * Math.sin(at * 2 * Math.PI * 440 / rate),
  );
  const file = new Uint8Array(44 + sound.length);
  const view = new DataView(file.buffer);
  file.set(text("RIFF"), 0);
  view.setUint32(4, 36 + sound.length, true);
  file.set(text("WAVEfmt "), 8);
  view.setUint32(16, 16, true);
  // PCM, one channel.
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate, true);
  view.setUint16(32, 1, true);
  view.setUint16(34, 8, true);
  file.set(text("data"), 36);
  view.setUint32(40, sound.length, true);
  file.set(sound, 44);
  return file;
}
