"""Words that say nothing of what a post is about, by language.

Short lists of the most frequent function words, and of what people write on networks whatever
they talk about. A language without a list is filtered by all of them together: a missed term is
less of a nuisance than `the` on top of every chart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_WORDS: Final = {
    "en": """
        the and for are was were been being you your yours yourself our ours she her hers him his
        its they them their theirs this that these those there here what which who whom whose when
        where why how all any both each few more most other some such nor not only own same than
        too very can could will would shall should may might must have has had having does did
        doing done don doesn didn isn aren wasn weren hasn haven hadn won wouldn couldn shouldn
        ain let lets but because until while about against between into through during before
        after above below from down out off over under again further then once with without
        within also just like get got getting gets going gonna wanna really much many even still
        yet ever never always maybe one two thing things know think say says said make made way
        well now new back see look yes yeah okay lol lmao omg please thanks thank via per etc
        upon though although since whether either neither else another someone something anyone
        anything everyone everything nobody nothing people day today it's i'm
    """,
    "es": """
        que los las del una uno unos unas por con para como más mas pero sus sin sobre este esta
        estos estas ese esa esos esas eso esto aquel aquella muy también tambien entre cuando donde
        quien quienes todo toda todos todas nada algo cada otro otra otros otras hay han has soy
        eres son era eran fue fueron ser estar está están estoy estaba tengo tiene tienen hacer
        hace mis tus les nos qué porque porqué cómo así solo sólo desde hasta ahora hoy aquí ahí
        allí vez ya bien mejor tan tanto mucho mucha muchos muchas poco usted ustedes ellos ellas
        nosotros él ella yo mí ti si sí no ni al el la lo le se su un de en es y a o u e me te
        va van voy ver sea hola gracias jaja jajaja
    """,
    "pt": """
        que não nao uma umas uns dos das nos nas pelo pela pelos pelas com para por mais mas como
        seu sua seus suas meu minha meus minhas este esta estes estas esse essa esses essas isso
        isto aquele aquela ele ela eles elas você voce vocês nós quem qual quando onde muito muita
        muitos muitas também tambem entre sobre sem até ate depois antes agora hoje aqui ali lá já
        ainda sempre nunca tudo todo toda todos todas nada algo cada outro outra outros outras são
        sou era eram foi foram ser estar está estão estou estava tem têm ter tinha tenho fazer faz
        vai vou vão ver bem melhor tão tanto porque porquê assim só pra pro num numa dele dela
        gente obrigado obrigada kkk kkkk
    """,
    "fr": """
        les des une dans pour par sur avec sans sous vers chez entre plus moins pas mais que qui
        quoi dont quand comme comment pourquoi est sont était étaient été être suis avoir ont avait
        ai as avons avez fait faire fais cette ces cet son ses leur leurs mon mes ton tes notre nos
        votre vos elle elles ils nous vous lui moi toi eux tout tous toute toutes rien aussi bien
        très trop peu même alors donc car parce puis encore déjà toujours jamais ici là cela celui
        celle ceux ça oui non aux du de la le et ou où au en un il je tu on se ce ne si va vais
        peut peux faut aujourd hui lors après avant merci mdr
    """,
    "de": """
        der die das den dem des ein eine einen einem einer eines und oder aber denn weil dass daß
        wenn als wie wer was wann wo warum nicht kein keine keinen keiner nur noch schon auch sehr
        mehr immer nie wieder hier dort dann jetzt heute mal doch eben halt ist sind war waren bin
        bist seid sein wird werden wurde wurden worden hat haben habe hatte hatten kann können
        konnte muss müssen soll sollen sollte will wollen darf mit ohne für gegen von vom zum zur
        bei beim aus nach vor über unter zwischen durch um auf an in im am ich du er sie es wir ihr
        mich dich sich uns euch ihn ihm ihnen mein meine dein deine seine ihre unser dieser diese
        dieses diesen diesem jeder jede jedes alle alles viel viele etwas nichts man so zu ja nein
        gut ganz einfach danke bitte macht gibt geht leute
    """,
    "it": """
        che chi cui non per con del della dello dei degli delle dal dalla dai nel nella nei nelle
        sul sulla sui una uno gli come più meno anche solo molto poco tutto tutta tutti tutte
        questo questa questi queste quello quella quelli quelle quando dove perché perche come cosa
        sono sei siamo siete era erano stato stata essere fare fatto hai abbiamo hanno aveva avere
        può devo deve mio mia miei tuo tua suo sua suoi loro nostro vostro noi voi lui lei essi
        qui qua già ancora sempre mai poi ora oggi dopo prima senza tra fra sia così allora quindi
        bene niente nulla ogni altro altra altri altre grazie
    """,
    "nl": """
        het een van voor met niet naar aan dat die dit deze zijn was waren ben bent word wordt
        worden heeft hebben had hadden kan kunnen zal zullen zou moet moeten mag wil willen maar
        want omdat als dan toch nog ook al wel geen niets iets alles alle veel meer meest zeer
        hier daar waar wanneer wie wat hoe waarom bij uit over onder tussen door zonder tegen tot
        ik jij je hij zij ze wij we jullie hun hen mij me ons onze mijn jouw haar zo nu heel
        gewoon even gaat doen doet
    """,
    "sv": """
        och att det som för med inte den ett men från har hade kan ska skulle vill var vara är
        blir blev där här när hur vad vem vilken varför också bara mycket många mer mest alla allt
        inget något några min mitt mina din ditt sin sitt sina vår vårt jag han hon dom dem honom
        henne oss dig mig sig eller utan under över efter före mellan till om på av en så nu då
        ju väl sen får få gör göra
    """,
    "da": """
        det den der som for med ikke men har havde kan skal skulle vil var være blive blev her
        hvor hvad hvem hvordan hvorfor når også bare meget mange mere alle alt noget nogen ingen
        min mit mine din dit dine sin sit vores jeres han hun dem dig mig sig eller uden under
        over efter mellem til fra men så nu jeg og er af på om
    """,
    "no": """
        det den der som for med ikke men har hadde kan skal skulle vil var være bli ble her hvor
        hva hvem hvordan hvorfor når også bare mye mange mer alle alt noe noen ingen min mitt mine
        din ditt dine sin sitt vår han hun dem deg meg seg eller uten under over etter mellom til
        fra så nå jeg og er av på om
    """,
    "fi": """
        että joka mutta niin kun kuin jos vai tai sekä myös vain nyt sitten siis kuitenkin koska
        miten miksi mikä mitä missä milloin kuka oli ovat olla olen olet olemme ollut olisi ole
        minä sinä hän tämä tuo nämä nuo sen sitä siinä siitä tämän tätä tässä minun sinun hänen
        kaikki paljon enemmän hyvin aina joskus vielä ihan eikä eivät emme voi pitää
    """,
    "pl": """
        nie się jest są był była było były być będzie tego temu tym ten tej tych taki taka takie
        jak jako gdy kiedy gdzie kto który która które których czy ale albo lub oraz więc bo żeby
        aby przez przed przy pod nad dla bez jego jej ich mój moja twój swój nas was nam wam mnie
        mi ja ty on ona oni one my wy już jeszcze tylko też także bardzo wszystko nic coś tak teraz
        dziś tutaj może można trzeba mam masz mają po za od do na we ze dzięki
    """,
    "cs": """
        není jsem jsi jsou byl byla bylo byly být bude tak jak jako když kde kdo který která které
        ale nebo aby protože pro bez před přes pod nad jeho její jejich můj moje tvůj svůj nás vás
        nám vám mně jen také ještě už velmi všechno nic něco teď dnes tady může mám máte mají tento
        tato toto ten tom tím tomu toho
    """,
    "sk": """
        nie som sme ste bol bola bolo boli byť bude tak ako keď kde kto ktorý ktorá ktoré ale alebo
        aby lebo pre bez pred cez pod nad jeho jej ich môj moja tvoj svoj nás vás nám vám mne len
        tiež ešte veľmi všetko nič niečo teraz dnes tu môže mám máte majú tento táto toto tom tým
    """,
    "ru": """
        что это как так все всё она оно они его ему ней них нам нас вас вам мне меня тебя тебе
        себя мой моя мои твой свой наш ваш кто где когда куда почему зачем если или для без под над
        при про через между перед после уже ещё еще тоже также только очень можно нужно надо будет
        был была было были быть есть нет нету не ни да же ли бы вот тут там здесь теперь сейчас
        потом этот эта эти этого том тот тех чтобы потому который которая которые которых просто
        даже может чем ничего вообще какой какая какие раз на по из от до за но вы мы ты он я
    """,
    "uk": """
        що це цей ця ці цього так все вона воно вони його йому неї них нам нас вас вам мені мене
        тебе тобі себе мій моя мої твій свій наш ваш хто де коли куди чому якщо або для без під над
        при про через між перед після вже ще теж також тільки дуже можна треба буде був була було
        були бути немає ось тут там зараз потім той щоб тому який яка які яких навіть може чим
        нічого просто але їх
    """,
    "bg": """
        това той тя то те ние вие аз ти като ако или за без под над при през между преди след вече
        още само много може трябва беше бил била били съм сме сте са ще няма има тук там сега който
        която които защо какво как кога къде всички всичко нищо нещо мен теб него нея нас вас тях
        моя твоя своя нашия
    """,
    "sr": """
        није сам смо сте јесам био била било били бити ће али или ако кад када где ко који која које
        што зато јер само још већ врло може треба овај ова ово тај та то све ништа нешто мене тебе
        њега нас вас њих мој твој свој nije sam smo ste jesam bio bila bilo bili biti ali ili ako
        kad kada gdje gde tko koji koja koje što sto zato jer samo još već vrlo može treba ovaj ova
        ovo taj sve ništa nešto mene tebe njega nas vas njih moj tvoj svoj kako
    """,
    "sl": """
        ker kot tudi pri pod nad brez med pred zelo vse nič nekaj samo lahko mora sem smo ste bil
        bila bilo bili biti kdo kje kdaj kateri katera katero ampak ali zato moj tvoj svoj nas vas
        njih tega temu tem
    """,
    "ro": """
        care este sunt era erau fost fie pentru din dar sau dacă când unde cine cum prin peste sub
        între după înainte fără foarte mai mult multe toate tot toți nimic ceva doar încă deja acum
        aici acolo acest această aceste acel acea lui lor mea meu tău său noastră noi voi ele ești
        avem aveți poate trebuie nici chiar așa îmi își
    """,
    "hu": """
        hogy nem van volt voltak lesz lenne vagy mert csak még már nagyon minden semmi valami itt
        ott most akkor amikor ahol aki ami amit ezt azt ezek azok ennek annak egy ezen azon neki
        nekem neked nekünk velem tudom kell lehet mint pedig majd úgy így meg után előtt között
    """,
    "tr": """
        bir bu şu için gibi ile daha çok ama fakat veya ya da değil var yok olan oldu olarak olur
        kadar sonra önce şimdi bugün burada orada her hiç bütün tüm kim nasıl neden niçin nerede
        ben sen biz siz onlar bana sana ona bize size benim senin onun bizim sizin kendi bile sadece
        artık hem diye şey mi mı mu mü
    """,
    "el": """
        και του της των τον την τους τις στο στη στον στην στα στις από για που πως πώς δεν μην θα
        είναι ήταν είμαι είσαι έχω έχει έχουν είχε αυτό αυτός αυτή αυτά αυτοί αλλά όμως γιατί όταν
        πού ποιος ποια τι όλα όλοι πολύ πιο μόνο ακόμα τώρα εδώ εκεί εγώ εσύ εμείς εσείς μου σου
        μας σας κάτι τίποτα
    """,
    "ar": """
        من في على عن إلى الى مع هذا هذه ذلك تلك التي الذي الذين هو هي هم هن نحن انت أنت انتم أنا
        انا كان كانت كانوا يكون ما لا لم لن ليس غير كل بعض أو او ثم أن ان إن إذا اذا لو لكن حتى قد
        كما كيف متى أين اين لماذا بعد قبل بين تحت فوق عند منذ هنا هناك الآن اليوم والله يا به له
        لها لهم بها فيه فيها منه عليه
    """,
    "fa": """
        که این آن از به با در برای را است بود بودند باشد هست نیست می شود شد شده کرد کرده کند کنند
        هم یا اما اگر تا چون چرا چه کی کجا هر همه هیچ خیلی بیشتر فقط حتی دیگر باید الان امروز من تو
        او ما شما آنها خود یک های ها رو دارد دارم
    """,
    "ur": """
        کے کی کا کو میں سے پر ہے ہیں تھا تھی تھے ہو اور یہ وہ اس ان جو نے بھی تو ہی نہیں کر گا گی
        گے ایک اب جب تک کیا کیوں کیسے ہم تم آپ اپنے اپنی
    """,
    "he": """
        של את על לא זה זאת זו הוא היא הם הן אני אתה את אנחנו אתם יש אין היה הייתה היו להיות כי אם
        או גם רק עוד כבר מאוד כל הכל משהו כלום מה מי איפה מתי למה איך עם בלי אל מן אבל אז עכשיו
        היום כאן שם שלי שלך שלו שלה שלנו
    """,
    "hi": """
        के की का को में से पर है हैं था थी थे हो और यह वह इस उस जो ने भी तो ही नहीं कर रहा रही रहे
        गया गई एक अब जब तक क्या क्यों कैसे हम तुम आप मैं अपने अपनी लिए साथ कोई कुछ सब बहुत
    """,
    "bn": """
        এই সেই এবং বা কিন্তু যদি তবে না হয় হয়ে হবে ছিল আছে নেই করে করা করতে থেকে জন্য সাথে আমি তুমি
        আপনি সে তারা আমরা আমার তোমার তার কি কেন কিভাবে কোথায় যে যা এক সব খুব আর ও
    """,
    "id": """
        yang dan di ke dari untuk dengan pada ini itu adalah tidak tak bukan juga sudah belum akan
        bisa dapat harus ada karena jika kalau atau tapi tetapi namun saya aku kamu anda dia mereka
        kita kami nya apa siapa kapan dimana mana kenapa bagaimana semua banyak lebih sangat hanya
        masih lagi saja seperti oleh dalam sama aja udah gak nggak ga yg
    """,
    "tl": """
        ang mga ng sa na ay at ito iyan iyon siya sila kami tayo kayo ako ikaw ko mo niya nila namin
        natin ninyo hindi wala may mayroon para kung dahil pero kasi lang din rin naman pa ba kaya
        lahat ano sino saan kailan bakit paano
    """,
    "vi": """
        và của là có không cho với các những một này đó được trong khi thì mà như để ra vào lên
        xuống từ đến về ở tôi bạn anh chị em nó chúng ta họ mình gì ai đâu sao rất cũng đã đang sẽ
        nhưng hay hoặc nếu vì chỉ còn nữa lại
    """,
    "sw": """
        na ya wa kwa ni la za katika kwamba hii hiyo huyo hao yeye wao sisi wewe mimi sana lakini au
        kama pia bado tu kuwa alikuwa ana nina
    """,
    "ko": """
        그리고 그러나 하지만 그래서 그런데 이것 저것 그것 여기 저기 거기 우리 나는 너는 내가 네가 제가
        정말 진짜 너무 아주 매우 지금 오늘 있는 있다 없는 없다 하는 한다 합니다 입니다 이다 되는 된다
        그냥 이런 그런 저런 무슨 어떤 같은 모든 위해 때문에 에서 으로
    """,
}
#: Characters of function words in Chinese and Japanese: a pair with one of them is no term.
FUNCTION_CHARACTERS: Final = frozenset(
    "的了是在我有和就不人都一个個上也很到说說要去你会會着著没沒看好这這那他她它们們吗嗎吧呢啊与與及而被把让讓"
    "给給对對还還又再想能可以么麼什怎为為因所但如果之其于於从從"
)
_EVERY: Final = frozenset(word for words in _WORDS.values() for word in words.split())
#: Languages that share a list: the written words are the same, or nearly so.
_SAME: Final = {
    "hr": "sr", "bs": "sr", "sh": "sr", "nb": "no", "nn": "no", "ms": "id", "fil": "tl",
    "gl": "pt", "ca": "es", "af": "nl", "be": "ru", "mk": "bg",
}  # fmt: skip


@lru_cache(maxsize=512)
def stop_words(language: str | None) -> frozenset[str]:
    """The words to leave out of a post in this language (a code such as `en` or `pt-BR`)."""
    code = (language or "").partition("-")[0].partition("_")[0].lower()
    words = _WORDS.get(_SAME.get(code, code))
    # English is everywhere: in retweeted phrases, in product names, in jokes.
    return _EVERY if words is None else frozenset(words.split()) | frozenset(_WORDS["en"].split())
