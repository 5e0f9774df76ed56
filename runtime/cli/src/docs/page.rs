//! A page of Markdown, taken apart.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// What of a page is checked.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Blocks of code.
    pub(super) blocks: Vec<Block>,
    /// Code within sentences.
    pub(super) code: Vec<String>,
    /// Where links lead.
    pub(super) links: Vec<String>,
    /// What links to its headings are called.
    pub(super) anchors: Vec<String>,
}

/// A block of code.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// What the fence says, or nothing.
    pub(super) language: String,
    /// The code.
    pub(super) text: String,
}

impl Page {
    pub(super) fn of(markdown: &str) -> Self {
        let mut page = Self::default();
        let (mut in_block, mut heading) = (false, None::<String>);
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    in_block = true;
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    page.blocks.push(Block { language, text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => in_block = false,
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.anchors.extend(heading.take().map(|text| anchor(&text)))
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.to_string());
                }
                Event::Text(text) if in_block => {
                    page.blocks.last_mut().unwrap().text.push_str(&text);
                }
                Event::Code(text) => {
                    heading.iter_mut().for_each(|heading| heading.push_str(&text));
                    page.code.push(text.to_string());
                }
                Event::Text(text) => heading.iter_mut().for_each(|heading| heading.push_str(&text)),
                _ => {}
            }
        }
        page
    }

    /// What a person is to type: the lines of `sh`, and those of `console` that follow a prompt; continued ones are one.
    pub(super) fn shell_lines(&self) -> impl Iterator<Item = String> {
        self.blocks.iter().flat_map(|block| {
            let text = block.text.replace("\\\n", " ");
            let lines: Vec<_> = match block.language.as_str() {
                "sh" => text.lines().map(str::to_owned).collect(),
                "console" => {
                    text.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
                }
                _ => Vec::new(),
            };
            lines
        })
    }
}

/// What a link to a heading is called, as GitHub and mdBook do.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn a_page_is_taken_apart() {
    let page = Page::of(
        "# One `wisp run` here\n[there](b.md#c)\n\n```console\n$ wisp run a\noutput\n```\n\n```sh\nwisp \\\n run b\n```\n",
    );
    assert_eq!(
        (&*page.anchors[0], &*page.links[0], &*page.code[0]),
        ("one-wisp-run-here", "b.md#c", "wisp run")
    );
    assert_eq!(page.shell_lines().collect::<Vec<_>>(), ["wisp run a", "wisp   run b"]);
}
