package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.time.LocalDate;

/** What the job needs of a click: epoch milliseconds, and cents (negative for a refund, 0 for what is no order). */
public record Event(long time, long spend) {
    private static final JsonFactory FACTORY = new JsonFactory();

    /** From a record's value, by Jackson's streaming parser. */
    public static Event parse(byte[] json) throws IOException {
        String time = null;
        String type = null;
        double price = 0;
        long quantity = 1;
        try (JsonParser parser = FACTORY.createParser(json)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                parser.nextToken();
                switch (name) {
                    case "event_time" -> time = parser.getText();
                    case "event_type" -> type = parser.getText();
                    case "price" -> price = parser.getDoubleValue();
                    case "quantity" -> quantity = parser.getLongValue();
                    default -> parser.skipChildren();
                }
            }
        }
        long line = (long) Math.rint(price * 100) * quantity;
        long spend = "purchase".equals(type) ? line : "refund".equals(type) ? -line : 0;
        return new Event(epochMillis(time), spend);
    }

    /** Of 2016-08-01T07:00:12.000Z; Instant.parse takes a multiple of the time. */
    private static long epochMillis(String text) {
        long days = LocalDate.of(number(text, 0, 4), number(text, 5, 7), number(text, 8, 10)).toEpochDay();
        long minutes = (days * 24 + number(text, 11, 13)) * 60 + number(text, 14, 16);
        return (minutes * 60 + number(text, 17, 19)) * 1000 + number(text, 20, 23);
    }

    private static int number(String text, int start, int end) {
        int value = 0;
        for (int i = start; i < end; i++) {
            value = value * 10 + text.charAt(i) - '0';
        }
        return value;
    }
}
