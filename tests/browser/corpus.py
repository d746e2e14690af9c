"""Texts that want to be more than text: markup in every context, scripts, templates, direction changes, look-alikes."""

from __future__ import annotations

HIT = "window.wasHit=1"
SCRIPT = f"<script>{HIT}</script>"

MARKUP = [
    SCRIPT,
    f"</script>{SCRIPT}",
    f"</title>{SCRIPT}",
    f"</textarea>{SCRIPT}",
    f"</style>{SCRIPT}",
    f"</pre></code></td></table>{SCRIPT}",
    f"--></noscript>{SCRIPT}",
    f"<![CDATA[{SCRIPT}]]>",
    f"<img src=x onerror={HIT}>",
    f"'\"><img src=x onerror={HIT}>",
    f"<svg/onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<svg><animate onbegin={HIT} attributeName=x>",
    f"<math><mtext><img src=x onerror={HIT}></mtext></math>",
    f"<body onload={HIT}>",
    f"<details open ontoggle={HIT}>",
    f"<input autofocus onfocus={HIT}>",
    f"<video><source onerror={HIT}></video>",
    f"<iframe srcdoc='{SCRIPT}'></iframe>",
    f"<iframe src='javascript:{HIT}'></iframe>",
    f"<a href='javascript:{HIT}'>click</a>",
    f"javascript:{HIT}",
    f"data:text/html,{SCRIPT}",
    f"<object data='data:text/html,{SCRIPT}'></object>",
    f"<embed src='javascript:{HIT}'>",
    "<base href='https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/a.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<style>*{display:none!important}</style>",
    "<form action='https://evil.example/'><button>Approve</button></form>",
    "</form><form action='/sign-out' method=post><button>Approve</button>",
    "<plaintext>",
    "<!-- ",
    "<div id=main hidden>",
    "<template><script>1</script></template>",
    f'" autofocus onfocus="{HIT}',
    f"' autofocus onfocus='{HIT}",
    f"` onmouseover=`{HIT}",
    f"x onmouseover={HIT} ",
    "&lt;b&gt;twice&lt;/b&gt;",
    "&#60;script&#62;",
    "&amp;amp;",
    "%3Cscript%3E",
    "\\u003cscript\\u003e",
    "\\x3cscript\\x3e",
    f"${{{HIT}}}",
    "{{7*7}}{% raw %}{{ request }}",
    "{{constructor.constructor('window.wasHit=1')()}}",
    "#{7*7}",
    "<%= 7*7 %>",
    f"'; {HIT}; //",
    f'"; {HIT}; //',
    f"</script><script type=module>{HIT}</script>",
    "![beacon](https://evil.example/a.png)",
    "[link](https://evil.example/)",
    "https://evil.example/?approve=1",
    "event: end\ndata: {}\n\n",
    "first line\nsecond line\r\nthird\ttabbed",
    "a" * 300,
    "z\u0351\u0344\u0312" * 8,
    "漢字 العربية עברית ไทย 🙂👩‍👩‍👧",
]
HIDDEN = [
    "user\u202eexe.gnp",
    "\u2066approved by\u2069 nobody",
    "pay\u200bpal",
    "null\u200cwidth\u200djoin",
    "word\u2060joiner\ufeff",
    "soft\u00adhyphen",
    "\u202dforced left\u202c",
    "\u061carabic mark",
    "escape \x1b[31mred\x1b[0m",
    "bell\x07 and back\x08space",
    "tag\U000e0041\U000e0042s",
    "hangul\u3164filler",
]
LOOKALIKES = ["p\u0430ypal.com", "\u0410pprove"]

CORPUS = [*MARKUP, *HIDDEN, *LOOKALIKES]

# Everything at once, for places that hold one text.
COMPOSITES = [
    "</script></title></textarea>'\"><img src=x onerror=window.wasHit=1><script>window.wasHit=1</script>{{7*7}}",
    "user\u202eexe.gnp \u2066pay\u200bpal\u2069 \x1b[31mred <b>&lt;",
]
