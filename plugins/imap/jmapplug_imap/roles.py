"""Which folder is the Trash: by the server's word (RFC 6154, RFC 8457, XLIST), else by well-known names.

Words: a *stated* role comes from a LIST attribute, a *suggested* one from a name. A statement beats every suggestion,
and of several candidates for one role exactly one keeps it: two folders are never merged into one (wish 17).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

STATED: Mapping[str, str] = {
    "\\all": "all",
    "\\allmail": "all",  # XLIST, before RFC 6154
    "\\archive": "archive",
    "\\drafts": "drafts",
    "\\flagged": "flagged",
    "\\starred": "flagged",
    "\\important": "important",
    "\\inbox": "inbox",
    "\\junk": "junk",
    "\\spam": "junk",
    "\\memos": "memos",
    "\\scheduled": "scheduled",
    "\\snoozed": "snoozed",
    "\\sent": "sent",
    "\\trash": "trash",
}
"""LIST attribute in lower case → JMAP role."""

# Role → language → names, most telling first. No name may stand under two roles (a test holds that): where one means
# Trash in one program and Junk in another (垃圾箱), it is left out.
NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "sent": {
        "en": ("Sent", "Sent Items", "Sent Mail", "Sent Messages", "Sent-Mail"),
        "de": ("Gesendet", "Gesendete Objekte", "Gesendete Elemente", "Gesendete Nachrichten", "Postausgang gesendet"),
        "fr": ("Envoyés", "Éléments envoyés", "Messages envoyés", "Courrier envoyé", "Objets envoyés", "Envoyé"),
        "es": ("Enviados", "Elementos enviados", "Mensajes enviados", "Correo enviado", "Enviado"),
        "it": ("Posta inviata", "Inviati", "Inviata", "Elementi inviati", "Messaggi inviati"),
        "pt": ("Itens enviados", "E-mails enviados", "Mensagens enviadas", "Enviadas"),
        "nl": ("Verzonden", "Verzonden items", "Verzonden berichten", "Verstuurd"),
        "pl": ("Wysłane", "Elementy wysłane", "Wysłane elementy"),
        "sv": ("Skickat", "Skickade objekt", "Skickade", "Skickade meddelanden"),
        "da": ("Sendt post", "Sendte elementer", "Sendte", "Sendte mails"),
        "nb": ("Sendt", "Sendte objekter", "Sendte e-poster"),
        "fi": ("Lähetetyt", "Lähetetyt kohteet", "Lähetetyt viestit"),
        "cs": ("Odeslané", "Odeslaná pošta", "Odeslané zprávy"),
        "sk": ("Odoslané", "Odoslaná pošta", "Odoslané správy"),
        "hu": ("Elküldött", "Elküldött elemek", "Elküldött üzenetek"),
        "ro": ("Trimise", "Elemente trimise", "Mesaje trimise"),
        "tr": ("Gönderilmiş Öğeler", "Gönderilmiş", "Gönderilenler", "Gönderilmiş Postalar"),
        "el": ("Απεσταλμένα", "Σταλμένα"),
        "ru": ("Отправленные", "Отправленная почта", "Отправленные письма"),
        "uk": ("Надіслані", "Відправлені"),
        "bg": ("Изпратени",),
        "ja": ("送信済み", "送信済みアイテム", "送信済みメール", "送信済みトレイ"),
        "zh": ("已发送", "已发送邮件", "已發送", "寄件備份", "寄件备份", "已傳送的郵件"),
        "ko": ("보낸편지함", "보낸 편지함", "보낸 메일함", "보낸메일함"),
        "he": ("נשלח", "פריטים שנשלחו", "דואר יוצא שנשלח"),
        "ar": ("المرسلة", "البريد المرسل", "العناصر المرسلة"),
        "ca": ("Enviats",),
        "et": ("Saadetud",),
        "lt": ("Išsiųsti", "Išsiųstieji"),
        "lv": ("Nosūtītie", "Nosūtīts"),
        "vi": ("Thư đã gửi", "Đã gửi"),
    },
    "drafts": {
        "en": ("Drafts", "Draft", "Draft Messages"),
        "de": ("Entwürfe", "Entwurf"),
        "fr": ("Brouillons", "Brouillon"),
        "es": ("Borradores", "Borrador"),
        "it": ("Bozze", "Bozza"),
        "pt": ("Rascunhos", "Rascunho"),
        "nl": ("Concepten", "Concept"),
        "pl": ("Szkice", "Kopie robocze", "Wersje robocze", "Robocze"),
        "sv": ("Utkast",),
        "da": ("Kladder", "Udkast"),
        "nb": ("Kladd", "Utkaster"),
        "fi": ("Luonnokset",),
        "cs": ("Koncepty", "Rozepsané"),
        "sk": ("Rozpísané", "Návrhy"),
        "hu": ("Piszkozatok", "Vázlatok"),
        "ro": ("Ciorne", "Schițe"),
        "tr": ("Taslaklar", "Taslak"),
        "el": ("Πρόχειρα",),
        "ru": ("Черновики",),
        "uk": ("Чернетки",),
        "bg": ("Чернови",),
        "ja": ("下書き",),
        "zh": ("草稿", "草稿箱", "草稿夹", "草稿匣"),
        "ko": ("임시보관함", "임시 보관함", "작성 중인 메일"),
        "he": ("טיוטות",),
        "ar": ("مسودات", "المسودات"),
        "ca": ("Esborranys",),
        "et": ("Mustandid",),
        "lt": ("Juodraščiai",),
        "lv": ("Melnraksti",),
        "vi": ("Thư nháp", "Bản nháp"),
    },
    "trash": {
        "en": ("Trash", "Deleted Items", "Deleted Messages", "Deleted", "Bin", "Trash Can"),
        "de": ("Papierkorb", "Gelöscht", "Gelöschte Objekte", "Gelöschte Elemente", "Gelöschte Nachrichten"),
        "fr": ("Corbeille", "Éléments supprimés", "Messages supprimés", "Supprimés"),
        "es": ("Papelera", "Elementos eliminados", "Mensajes eliminados", "Eliminados", "Borrados"),
        "it": ("Cestino", "Posta eliminata", "Elementi eliminati", "Messaggi eliminati", "Eliminata"),
        "pt": ("Lixeira", "Lixo", "Itens excluídos", "Itens eliminados", "Excluídos", "Reciclagem"),
        "nl": ("Prullenbak", "Verwijderde items", "Verwijderde berichten", "Verwijderd", "Prullenmand"),
        "pl": ("Kosz", "Elementy usunięte", "Usunięte"),
        "sv": ("Papperskorgen", "Papperskorg", "Borttagna objekt", "Borttaget", "Raderat"),
        "da": ("Papirkurv", "Slettet post", "Slettede elementer", "Slettede"),
        "nb": ("Papirkurven", "Slettet", "Slettede objekter", "Søppelbøtte"),
        "fi": ("Roskakori", "Poistetut", "Poistetut kohteet", "Poistetut viestit"),
        "cs": ("Koš", "Odstraněná pošta", "Odstraněné"),
        "sk": ("Kôš", "Odstránené", "Odstránená pošta"),
        "hu": ("Kuka", "Lomtár", "Törölt elemek", "Törölt"),
        "ro": ("Coș de gunoi", "Coș", "Gunoi", "Elemente șterse"),
        "tr": ("Çöp Kutusu", "Çöp", "Silinmiş Öğeler", "Silinmiş"),
        "el": ("Κάδος απορριμμάτων", "Κάδος", "Απορρίμματα", "Διαγραμμένα"),
        "ru": ("Корзина", "Удалённые", "Удаленные"),
        "uk": ("Кошик", "Видалені"),
        "bg": ("Кошче", "Изтрити"),
        "ja": ("ゴミ箱", "ごみ箱", "削除済みアイテム", "削除済み"),
        "zh": ("已删除", "已删除邮件", "废纸篓", "回收站", "刪除的郵件", "垃圾桶"),
        "ko": ("휴지통", "지운 편지함", "지운편지함"),
        "he": ("אשפה", "פריטים שנמחקו"),
        "ar": ("سلة المهملات", "المهملات", "العناصر المحذوفة"),
        "ca": ("Paperera",),
        "et": ("Prügikast", "Kustutatud"),
        "lt": ("Šiukšlinė", "Šiukšliadėžė"),
        "lv": ("Atkritne", "Miskaste"),
        "vi": ("Thùng rác",),
    },
    "junk": {
        "en": ("Junk", "Spam", "Junk Mail", "Junk E-mail", "Junk Email", "Bulk Mail", "Bulk", "Spam Mail", "Spambox"),
        "de": ("Unerwünscht", "Spamverdacht", "Junk-E-Mail", "Unerwünschte Werbung", "Spam-Verdacht"),
        "fr": ("Indésirables", "Courrier indésirable", "Pourriel", "Pourriels"),
        "es": ("Correo no deseado", "Correo basura", "Basura"),
        "it": ("Posta indesiderata", "Indesiderata"),
        "pt": ("Lixo eletrônico", "Lixo eletrónico", "Correio eletrónico não solicitado"),
        "nl": ("Ongewenst", "Ongewenste e-mail", "Ongewenste berichten"),
        "pl": ("Wiadomości-śmieci", "Niechciane", "Wiadomości śmieci"),
        "sv": ("Skräppost",),
        "da": ("Uønsket post", "Uønsket mail", "Uønsket e-mail"),
        "nb": ("Søppelpost", "Uønsket e-post"),
        "fi": ("Roskaposti",),
        "cs": ("Nevyžádaná pošta", "Nevyžádané"),
        "sk": ("Nevyžiadaná pošta", "Nevyžiadané"),
        "hu": ("Levélszemét", "Szemét"),
        "ro": ("Mesaje nedorite", "E-mail nedorit"),
        "tr": ("Önemsiz", "Önemsiz E-posta", "İstenmeyen", "Gereksiz"),
        "el": ("Ανεπιθύμητα", "Ανεπιθύμητη αλληλογραφία"),
        "ru": ("Спам", "Нежелательная почта", "Нежелательные"),
        "uk": ("Небажана пошта",),
        "bg": ("Нежелана поща",),
        "ja": ("迷惑メール", "迷惑メールフォルダ"),
        "zh": ("垃圾邮件", "垃圾郵件", "垃圾邮件箱", "广告邮件"),
        "ko": ("스팸메일함", "스팸함", "스팸편지함", "정크 메일", "스팸 메일함"),
        "he": ("דואר זבל", "זבל"),
        "ar": ("البريد العشوائي", "البريد غير الهام"),
        "ca": ("Correu brossa",),
        "et": ("Rämpspost",),
        "lt": ("Brukalas",),
        "lv": ("Mēstules", "Surogātpasts"),
        "vi": ("Thư rác",),
    },
    "archive": {
        "en": ("Archive", "Archives", "Archived"),
        "de": ("Archiv",),
        "fr": ("Archivés",),
        "es": ("Archivo", "Archivados"),
        "it": ("Archivio", "Archiviati"),
        "pt": ("Arquivo", "Arquivo morto", "Arquivados"),
        "nl": ("Archief",),
        "pl": ("Archiwum",),
        "sv": ("Arkiv",),
        "fi": ("Arkisto",),
        "cs": ("Archív",),
        "hu": ("Archívum",),
        "ro": ("Arhivă", "Arhiva"),
        "tr": ("Arşiv",),
        "el": ("Αρχειοθήκη", "Αρχείο"),
        "ru": ("Архив",),
        "uk": ("Архів",),
        "ja": ("アーカイブ",),
        "zh": ("存档", "归档", "封存"),
        "ko": ("보관함", "아카이브"),
        "he": ("ארכיון",),
        "ar": ("أرشيف", "الأرشيف"),
        "ca": ("Arxiu",),
        "et": ("Arhiiv",),
        "lt": ("Archyvas",),
        "lv": ("Arhīvs",),
        "vi": ("Lưu trữ",),
    },
}

_ABOVE = frozenset({("inbox",), ("[gmail]",), ("[google mail]",)})


def fold(name: str) -> str:
    """A name as it is compared: NFKC, case folded (Turkish dotted İ too), runs of blanks as one."""
    folded = unicodedata.normalize("NFKC", name).casefold().replace("i\u0307", "i")
    return " ".join(folded.split())


def _ranked() -> dict[str, tuple[str, int]]:
    """Folded name → (role, rank); a smaller rank is the better candidate."""
    table: dict[str, tuple[str, int]] = {}
    for role, languages in NAMES.items():
        for names in languages.values():
            for rank, name in enumerate(names):
                table.setdefault(fold(name), (role, rank))
    return table


_BY_NAME = _ranked()


def stated(attributes: Iterable[str]) -> str | None:
    """The role that LIST attributes state. Of several (Gmail: ``\\All`` and ``\\Important``) the table's first."""
    given = {attribute.lower() for attribute in attributes}
    return next((role for attribute, role in STATED.items() if attribute in given), None)


def suggested(path: Sequence[str]) -> tuple[str, int] | None:
    """(role, rank) that a path suggests: a well-known name at the top, or right below INBOX or [Gmail]."""
    if not path or (len(path) > 1 and tuple(fold(level) for level in path[:-1]) not in _ABOVE):
        return None
    found = _BY_NAME.get(fold(path[-1]))
    return found and (found[0], found[1] * 2 + len(path) - 1)


def assign(candidates: Sequence[tuple[bytes, str | None, Sequence[str]]]) -> dict[bytes, tuple[str | None, str | None]]:
    """Roles for (key, stated role, path) of all personal folders: key → (role, role_by_name), each role once.

    Of two folders that state one role the smaller key keeps it; a suggestion counts only where nobody states the role.
    """
    holders: dict[str, bytes] = {}
    for key, role, _ in sorted(candidates, key=lambda row: row[0]):
        if role is not None:
            holders.setdefault(role, key)
    by_name: dict[str, tuple[int, bytes]] = {}
    for key, role, path in candidates:
        hint = suggested(path) if role is None else None
        if hint is not None and hint[0] not in holders:
            by_name[hint[0]] = min(by_name.get(hint[0], (hint[1], key)), (hint[1], key))
    answer: dict[bytes, tuple[str | None, str | None]] = {key: (None, None) for key, _, _ in candidates}
    answer |= {key: (role, None) for role, key in holders.items()}
    return answer | {key: (None, role) for role, (_, key) in by_name.items()}
