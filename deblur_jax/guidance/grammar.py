"""The patterns that `words` looks for in a prompt, regular expressions for lower case."""

import re

FIGURES = (
  'person|people|man|woman|boy|girl|child|children|kids?|baby|bride|groom|couple|dog|cat|bird|'
  'horse|animal|flower|player|dancer|singer|model'
)
SIDES = {'upper': 'top', 'lower': 'bottom'}
REGIONS = (
  (r'\d+ *, *\d+ *, *\d+ *, *\d+', 'box'),
  (
    r'(?:top|upper|bottom|lower)[ -](?:left|right)(?: (?:corner|quarter|part|area|side))?',
    'corner',
  ),
  (r'(?:left|right|top|upper|bottom|lower)(?:[ -]hand)? (?:half|side|part|edge|area)', 'half'),
  (r'(?<=the )(?:left|right|top|bottom)\b(?! (?:third|quarter|fifth|row|line))', 'half'),
  (r'(?:corners|edges|borders|outer parts?)', 'not center'),
  (r'(?:center|centre|middle)', 'center'),
  (r'(?:backgrounds?|backdrop|bokeh|surroundings)', 'background'),
  (r'(?:main )?(?:subjects?|foreground)', 'subject'),
  (r'(?:faces?|eyes?|skin)', 'face'),
  (r'(?:texts?|letters|lettering|writing|licen[sc]e plates?|number plates?|captions?)', 'text'),
)
DETERMINER = r'(?:(?:the|my|her|his|their|our|its|this|that|both|all)\s+)*'
EXCEPT = (
  r'(?:(?:everything|all|anywhere|everywhere) but|except(?: for| in| on)?|other than|apart from|'
  r'excluding|outside(?: of)?|but not(?: in| on)?)'
)
KEEP = r'keep|keeping|leave|leaving|preserve|retain|maintain|ignore|spare|protect'
NOT = r'do not|never|without|not|nothing|no'
GOOD = r'(?:is|are|looks?) (?:already )?(?:fine|ok|okay|good|sharp|perfect|great|clean|in focus)'
UNCHANGED = r'as (?:it|they) (?:is|are|was|were)|alone|untouched|unchanged|the rest|everything else'
LIGHT = (
  r'slightly|slight|a (?:little|bit|touch)(?: bit)?|gently|gentle|lightly|subtly|subtle|mildly|'
  r'mild|go easy|(?:light|soft)(?= (?:noise|denois|sharp|deblur|touch|hand))|barely'
)
STRONG = (
  r'strong(?:ly)?|heav(?:y|ily)(?! compressed)|aggressive(?:ly)?|maximum|max|maximal(?:ly)?|'
  r'completely|fully|entirely|extra|as (?:sharp|clean|crisp|clear) as .*'
)
VERB = (
  r'remove|reduce|sharpen|deblur|unblur|denoise|fix|restore|improve|enhance|clean(?: up)?|refocus|'
  r'get|make|take|lower|correct|clear|only|unshake|stabili[sz]e|focus|less'
)
OBJECT = re.compile(
  r'\b(?:remove|sharpen|deblur|unblur|denoise|fix|restore|improve|enhance|clean(?: up)?|refocus|'
  r'unshake|stabili[sz]e|(?<!focus )(?<!focused )(?:in|on)) (?:the|my|her|his|their)((?: \w+){1,3})'
)
PICTURE = (
  'area|photos?|pictures?|images?|shots?|pics?|scans?|snapshots?|photographs?|frame|whole|entire|'
  'details?|thing|quality|evening|night|dark|morning|wind|rain|snow|car|train|bus|boat|concert|'
  'church|wedding|party|zoo|beach|phone|camera|web|internet|way|original'
)
"""Words after 'the' that name no part of the picture that would have to be found."""
PART = 'hands?|hair|arms?|legs?|feet|body|head|mouth|nose|teeth|hat|dress|shoes?|clothes|car|sky'
"""Words that do, and that the encoder could mistake: hands shake."""
ADD_BLUR = re.compile(
  r'\bblur (?:the|it|this|my|her|his|out)\b|\bblurrier\b|\b(?:more|add|some more) '
  r'(?:\w+ )?(?:blur|bokeh|grain|noise)\b|\bsofter\b|\bsoften\b'
)
PLAIN = (
  (r"\bwo ?n't\b", 'will not'),
  (r"\bcan ?n?'t|\bcannot\b", 'can not'),
  (r"n't\b", ' not'),
  (r'\bdont\b', 'do not'),
  (r"'s\b|'re\b", ' is'),
  (r"i'd\b", 'i would'),
  (r"i'm\b", 'i am'),
  (r'\bde[- ](?=nois|blur)', 'de'),
  (r'\bhalf[- ](?=strength)|\bby half\b', '50% '),
  (r'\bpercent\b|\bper cent\b', '%'),
  (r'\b(?:is|are|was) not (?:\w+ly |very |quite )?(in focus|focused)\b', 'is out of focus'),
  (r'\b(?:is|are|was) not (?:\w+ly |very |quite )?(sharp|crisp|clear|readable)\b', 'is blurry'),
  (
    r'\bdo not (?:want|like|need) (?:(?:any|the|this|all|that) )*(?=\w*(?:nois|grain|blur|artif))',
    'remove ',
  ),
)
